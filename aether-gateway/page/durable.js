// Durable logs: what they hold, who reads them, and how many waves wait for each. Look at those, send them again, drop a
// consumer.

import { overlap } from "./channels.js";
import { change, confirm } from "./confirm.js";
import { written } from "./json.js";
import { badge, empty, html, nothing, spark } from "./widgets.js";
import { bytes, clock, count, plural, quoted, span } from "./format.js";

/** How often the page reads while it is open, in seconds. */
const EVERY = 3;
/** The gateway reads every five seconds; what is older than this many is not what is there now. */
const OLD = 20;

let view = null;
let error = "";
let isReading = false;
let asked = 0;
let copied = "";
/** The consumers whose details are shown: log and name. */
const opened = new Set();
/** The waves that wait, by the same names, and what was not done. */
const waiting = new Map();
let failure = "";

export function open(app) {
  read(app);
}

export function back(app) {
  read(app);
}

export function close() {
  copied = "";
  failure = "";
  waiting.clear();
}

export function key(app, event) {
  if (event.key === "r") read(app);
}

async function read(app) {
  if (isReading) return;
  isReading = true;
  asked = app.history.second;
  try {
    view = await app.link.fetch("/api/durable");
    error = "";
  } catch (failed) {
    error = failed.message;
  }
  isReading = false;
  app.draw();
}

export function draw(app) {
  if (app.history.second - asked >= EVERY) read(app);
  return html`<div class="head"><h1>Durable logs</h1><div class="actions"><button @click=${() => read(app)} title="key r">Read again</button></div></div>
    <p class="quiet">Waves of durable channels are stored, and a consumer gets each of them until it has acknowledged it. The gateway itself only reads; the programs that own the logs go on.</p>
    ${failure ? html`<p class="card error" role="alert">${failure} <button class="small" @click=${() => { failure = ""; app.draw(); }}>Close</button></p>` : nothing}
    ${error ? html`<p class="card error" role="alert">${error}</p>` : nothing}
    ${view === null ? html`<p class="quiet">Reading the logs.</p>` : logs(app)}`;
}

function logs(app) {
  const old = view.unix_ms === null ? 0 : ((app.views.overview?.unix_ms ?? 0) - view.unix_ms) / 1000;
  return html`${old > OLD ? html`<p class="card error" role="alert">The folders were read ${span(old)} ago: the disk does not answer, or reading takes long.</p>` : nothing}
    ${view.logs.length === 0
    ? html`<section class="card">${view.unix_ms === null && view.more_logs === 0
        ? empty("No durable log is shown", "Name the folder of a log, or one with the folders of several. That of [durable] in the configuration is shown by itself, and so are logs in JetStream on the server of the gateway.", "aether gateway --durable /var/lib/aether")
        : html`<p class="quiet">No folder was read yet.</p>`}</section>`
    : view.logs.map((log, at) => card(app, log, at))}
    ${view.more_logs > 0 ? html`<p class="note">${plural(view.more_logs, "more folder")} would not fit.</p>` : nothing}
    ${jetstream(app, view.jetstream)}`;
}

/** What was read of JetStream, in one sentence. */
function jetstream(app, { is_observed: isObserved, url, reason, unix_ms: readAt, more_logs: more }) {
  if (!isObserved) return html`<p class="note">Logs in JetStream are not shown: ${reason}.</p>`;
  const old = ((app.views.overview?.unix_ms ?? readAt) - readAt) / 1000;
  return html`${old > OLD ? html`<p class="card error" role="alert">JetStream was read ${span(old)} ago: the server does not answer.</p>` : nothing}
    <p class="note">${plural(view.logs.filter(isStream).length, "log")} in JetStream of ${url}.${more > 0 ? ` ${plural(more, "more log")} would not fit, or could not be read in time.` : ""}</p>`;
}

const isStream = (log) => log.store === "jetstream";

/** When a log was read. */
const readAt = (log) => (isStream(log) ? view.jetstream.unix_ms : view.unix_ms);

const ago = (log, ms) => (ms === null ? "–" : `${span((readAt(log) - ms) / 1000)} ago`);

function card(app, log, at) {
  return html`<section class="card" aria-labelledby="h-log-${at}"><h2 id="h-log-${at}">${log.name} <small>${isStream(log) ? "JetStream" : log.folder}</small></h2>
    ${log.error ? html`<p class="error" role="alert">It cannot be read: ${log.error}</p>` : nothing}
    ${log.held ? facts(log) : nothing}
    ${!log.held ? nothing : log.consumers.length === 0
      ? empty("No consumer yet", "A consumer gets each wave until it has acknowledged it, also after a restart:", 'let billing = log.consumer("billing", "orders.>", ConsumerOptions::default())?;\nlet delivery = billing.receive().await?;\ndelivery.ack().await?;')
      : table(app, log)}
    ${log.more_consumers > 0 ? html`<p class="note">${plural(log.more_consumers, "more consumer")} would not fit.</p>` : nothing}
    ${log.held ? html`<details><summary>Commands</summary>${commands(app, isStream(log) ? [
      ["its consumers and those of the other logs", consumersOf()],
      ["the same by the tool of NATS", `nats consumer report ${quoted(log.name)}`],
    ] : [
      ["its consumers, with exact numbers", `aether log consumers ${quoted(log.folder)}`],
      ["the last waves", `aether log tail ${quoted(log.folder)} -n 20`],
      ["read everything and list the damage", `aether log verify ${quoted(log.folder)}`],
      ...(log.held.dead_letters === 0 ? [] : [["what consumers have given up", `aether letters ls --log ${quoted(log.folder)}`]]),
    ])}</details>` : nothing}</section>`;
}

const consumersOf = () => `aether log consumers ${quoted(view.jetstream.url)}`;

function facts(log) {
  const { held } = log;
  const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
  const isEmpty = held.last < held.first;
  return html`<dl class="facts">
    ${fact("positions", isEmpty ? "no waves" : `${count(held.first)} to ${count(held.last)}`)}
    ${fact("size", `${bytes(held.bytes)} ${isStream(log) ? `on ${plural(held.replicas, "server")}` : `in ${plural(held.segments, "segment")}`}`)}
    ${fact("oldest wave", isEmpty ? "–" : ago(log, held.oldest_unix_ms))}
    ${fact("newest wave", isEmpty ? "–" : ago(log, held.newest_unix_ms))}
    ${fact("keeps", kept(held.retention))}
    ${fact("dead letters", held.dead_letters === null ? html`<a href="#letters">many</a>` : held.dead_letters > 0 ? html`<a href="#letters">${count(held.dead_letters)}</a>` : 0)}</dl>`;
}

function kept(retention) {
  if (retention === null) return html`<span title="Only the program that owns the log knows, or a configuration with [durable]">not known here</span>`;
  const rules = [
    retention.max_age_seconds === null ? "" : span(retention.max_age_seconds),
    retention.max_bytes === null ? "" : bytes(retention.max_bytes),
    retention.max_waves === null ? "" : plural(retention.max_waves, "wave"),
  ].filter((rule) => rule);
  return rules.length === 0 ? "everything" : `at most ${rules.join(", ")}`;
}

function table(app, log) {
  return html`<div class="scroll" tabindex="0"><table><thead><tr><th>consumer</th><th>pattern</th><th class="number">wait</th>${isStream(log) ? html`<th class="number" title="of those in flight, delivered more than once">in flight again</th><th class="number">delivered up to</th>` : html`<th class="spark-cell">last 5 min</th><th class="number">the oldest</th>`}<th class="number">in flight</th><th class="number">retrying</th><th class="number">dead letters</th><th class="number">last acknowledged</th></tr></thead>
    <tbody>${log.consumers.filter(({ standing }) => !app.filter || !standing?.pattern || overlap(app.filter, standing.pattern)).map((consumer) => row(app, log, consumer))}</tbody></table></div>`;
}

function row(app, log, consumer) {
  const { name, standing } = consumer;
  if (!standing) return html`<tr class="now"><td><b>${name}</b></td><td class="wrap" colspan="8">It cannot be read: ${consumer.error}</td></tr>`;
  const id = idOf(log, name);
  const toggle = () => {
    if (!opened.delete(id)) opened.add(id);
    copied = "";
    app.draw();
  };
  const isOpen = opened.has(id);
  const letters = standing.dead_letters;
  return html`<tr class=${isOpen ? "chosen" : ""}><td><button class="link" aria-expanded=${isOpen} @click=${toggle}><b>${name}</b></button></td>
    <td>${standing.pattern === null ? html`<span class="quiet">${isStream(log) ? "no log of Aether" : "not begun"}</span>` : html`<span class="pattern">${standing.pattern}</span>`}</td>
    <td class="number">${lag(standing)}</td>
    ${isStream(log)
      ? html`<td class="number">${standing.redelivered > 0 ? badge(count(standing.redelivered), "warn") : 0}</td><td class="number">${count(standing.delivered)}</td>`
      : html`<td class="spark-cell">${spark(standing.lag_history, { label: `lag of ${name} in the last five minutes` })}</td>
    <td class="number">${standing.oldest_waiting_unix_ms === null ? "–" : span((view.unix_ms - standing.oldest_waiting_unix_ms) / 1000)}</td>`}
    <td class="number">${count(standing.in_flight)}</td>
    <td class="number">${standing.retrying === null ? "many" : standing.retrying > 0 ? badge(count(standing.retrying), "warn") : 0}</td>
    <td class="number">${letters === null ? "many" : letters > 0 ? html`<a href="#letters" title="Dead letters">${badge(count(letters), "bad")}</a>` : 0}</td>
    <td class="number">${ago(log, standing.last_acknowledged_unix_ms)}</td></tr>
    ${isOpen ? html`<tr class="detail"><td colspan="9">${isStream(log) ? streamDetail(app, log, name, standing) : detail(app, log, name, standing)}</td></tr>` : nothing}`;
}

function lag(standing) {
  if (standing.is_exact) return count(standing.lag);
  return html`<span title="Not all of the log was counted yet">${count(standing.lag)} to ${count(standing.lag_at_most)}</span>`;
}

/** The consumer in the query of a request. */
function named(log, name) {
  const query = new URLSearchParams({ [isStream(log) ? "log" : "folder"]: isStream(log) ? log.name : log.folder, consumer: name });
  return `?${query}`;
}

const idOf = (log, name) => `${log.folder ?? "jetstream:"}/${log.name}/${name}`;

async function look(app, log, name) {
  const id = idOf(log, name);
  if (waiting.delete(id)) {
    app.draw();
    return;
  }
  try {
    waiting.set(id, await app.link.fetch(`/api/durable/consumer${named(log, name)}`));
    failure = "";
  } catch (failed) {
    failure = `The waves that wait for ${name} cannot be read: ${failed.message}`;
  }
  app.draw();
}

async function changeConsumer(app, path, method, done, undone) {
  failure = await change(app, `/api/durable/${path}`, method, done, undone);
  await read(app);
}

function sendAgain(app, log, name, standing) {
  confirm(app, {
    title: "Send the waves again that wait?",
    text: html`Those of <b>${standing.pattern}</b> that wait for <b>${name}</b>, at most 1000 and about 16 MiB, are emitted as new waves for all who listen now. The consumer itself is not changed: it gets them all the same.`,
    verb: "Send them again",
    run: () => changeConsumer(app, `consumer/replay${named(log, name)}`, "POST",
      ({ waves, more }) => `${plural(waves, "wave")} sent again${more ? "; more wait" : ""}.`, `The waves that wait for ${name} were not sent again`),
  });
}

function drop(app, log, name, standing) {
  confirm(app, {
    title: `Drop the consumer ${name}?`,
    text: html`Its position is gone then: ${standing.lag === 0 ? "no wave waits" : html`<b>${plural(standing.lag, "wave")}</b> that wait`} for it${standing.lag === 0 ? "" : " are not delivered to it"}. A program that uses the name again begins at the oldest wave of the log. Its dead letters stay.`,
    verb: "Drop it",
    isDanger: true,
    run: () => changeConsumer(app, `consumer${named(log, name)}`, "DELETE", () => `The consumer ${name} was dropped.`, `The consumer ${name} was not dropped`),
  });
}

/** What can be done with a consumer. That of a folder is dropped by the program that has the log open, if it answers. */
function actions(app, log, name, standing) {
  const answers = isStream(log) || view.answering.includes(log.folder);
  const shown = waiting.get(idOf(log, name));
  return html`<div class="actions"><button aria-expanded=${shown !== undefined} ?disabled=${standing.pattern === null} @click=${() => look(app, log, name)}>Look at what waits</button>
      <button ?disabled=${standing.pattern === null} @click=${() => sendAgain(app, log, name, standing)}>Send what waits again</button>
      ${answers ? html`<button class="danger" @click=${() => drop(app, log, name, standing)}>Drop the consumer</button>` : nothing}</div>
    ${shown ? waves(shown) : nothing}`;
}

function waves({ waves: all, more, hidden }) {
  if (all.length === 0 && hidden === 0) return html`<p class="note">Nothing waits.</p>`;
  const content = (wave) => (wave.json === undefined ? (wave.text ?? wave.base64 ?? "") : written(wave.json));
  return html`<table class="waiting"><thead><tr><th class="number">position</th><th>stored</th><th>channel</th><th>source</th><th class="number">amplitude</th><th>payload</th></tr></thead>
    <tbody>${all.map(({ position, wave }) => html`<tr><td class="number">${count(position)}</td><td>${clock(wave.emitted_unix_ms).slice(0, 8)}</td><td>${wave.channel}</td><td>${wave.source}</td>
      <td class="number">${wave.amplitude}</td><td class="payload"><code>${content(wave).slice(0, 300)}</code></td></tr>`)}</tbody></table>
    ${hidden > 0 ? html`<p class="note">${plural(hidden, "wave")} of channels that the token does not let you hear.</p>` : nothing}
    ${more ? html`<p class="note">The first ${plural(all.length, "wave")}; more wait.</p>` : nothing}`;
}

function detail(app, log, name, standing) {
  const folder = quoted(log.folder);
  const pattern = `${folder} ${quoted(standing.pattern ?? ">")} --from ${standing.position + 1}`;
  const answers = view.answering.includes(log.folder);
  return html`<dl><dt>everything is settled up to</dt><dd>position ${count(standing.position)}</dd>
    <dt>acknowledged</dt><dd>${plural(standing.acknowledged, "wave")}</dd>
    <dt>given up</dt><dd>${plural(standing.dead, "wave")}${standing.dead_letters > 0 ? html` (<a href="#letters">dead letters</a>)` : nothing}</dd>
    <dt>dropped by the log before</dt><dd>${plural(standing.expired, "wave")}</dd>
    ${standing.damaged_places > 0 ? html`<dt>damage</dt><dd>${plural(standing.damaged_places, "place")} of its journal; each may cost a redelivery</dd>` : nothing}</dl>
    ${actions(app, log, name, standing)}
    ${commands(app, [
      ["the last waves behind its position", `aether log tail ${pattern} -n 20`],
      ["everything behind its position again, as new waves for all who listen", `aether log replay ${pattern} --medium nats://127.0.0.1:4222`],
      ...(standing.dead_letters === 0 ? [] : [["what it has given up, and then show, replay or drop", `aether letters ls --log ${folder}`]]),
    ])}
    <p class="note">A consumer that is gone holds nothing back. ${answers ? "The program that has the log open drops it if nothing reads with it."
      : html`The program that has the log open does not answer here (<code>with_letters()</code>), so to forget it, stop that program, and remove <code>${log.folder}/consumers/${name}</code>.`}</p>`;
}

function streamDetail(app, log, name, standing) {
  return html`<dl><dt>everything is acknowledged up to</dt><dd>position ${count(standing.position)}</dd>
    <dt>delivered up to</dt><dd>position ${count(standing.delivered)}; a program holds some waves ahead, which count as in flight</dd>
    <dt>delivered more than once</dt><dd>${plural(standing.redelivered, "wave")} of those in flight</dd></dl>
    ${actions(app, log, name, standing)}
    ${commands(app, [
      ["all consumers", consumersOf()],
      ["what the server knows of it", `nats consumer info ${quoted(log.name)} ${quoted(name)}`],
    ])}
    <p class="note">A consumer that is gone holds nothing back.</p>`;
}

function commands(app, all) {
  const copy = (command) => async () => {
    try {
      await navigator.clipboard.writeText(command);
      copied = command;
    } catch {
      copied = ""; // no right to the clipboard: it can be selected
    }
    app.draw();
  };
  return html`<ul class="commands">${all.map(([what, command]) => html`<li><span class="quiet">${what}</span>
    <div><pre tabindex="0"><code>${command}</code></pre><button class="small" @click=${copy(command)}>${copied === command ? "Copied" : "Copy"}</button></div></li>`)}</ul>`;
}
