// Queues: what waits, runs and fails in the consumers of durable logs, by process. Pause and resume them, retry or cancel a wave,
// end a schedule.

import { matches, overlap } from "./channels.js";
import { change, confirm } from "./confirm.js";
import { badge, channelLink, empty, html, nothing } from "./widgets.js";
import { count, plural, rate, span } from "./format.js";

/** How often the page reads while it is open and seen, in seconds: each process is asked, and may ask its server. */
const EVERY = 5;
const DOCS = "https://github.com/aether-bus/aether/blob/main/docs/start/jobs.md";

let list = null;
let planned = null;
/** Why the lists could not be read, and why something else was not done: reading again does not clear the second. */
let error = "";
let failure = "";
let isReading = false;
let asked = 0;
/** The address of the queue whose waves are shown, and these. */
let opened = "";
let jobs = null;

export function open(app) {
  read(app);
}

export function back(app) {
  read(app);
}

export function close() {
  opened = "";
  failure = "";
}

export function key(app, event) {
  if (event.key === "r") read(app);
}

const address = ({ store, consumer }) => `/api/queues/${store}/${encodeURIComponent(consumer)}`;

async function read(app) {
  if (isReading) return;
  isReading = true;
  asked = app.history.second;
  try {
    [list, planned] = await Promise.all([app.link.fetch("/api/queues"), app.link.fetch("/api/schedules")]);
    error = "";
    // Its process may have ended.
    if (!list.queues.some((queue) => address(queue) === opened)) opened = "";
    await look(app);
  } catch (failed) {
    error = failed.message;
  }
  isReading = false;
  app.draw();
}

/** Reads the waves of the queue that is open. */
async function look(app) {
  const of = opened;
  if (of) jobs = { of, ...(await app.link.fetch(of)) };
}

async function toggle(app, queue) {
  opened = opened === address(queue) ? "" : address(queue);
  app.draw();
  try {
    await look(app);
  } catch (failed) {
    failure = `The waves of ${queue.consumer} cannot be read: ${failed.message}`;
  }
  app.draw();
}

/** Has these queues changed, one after the other. */
async function steer(app, queues, what, done, undone) {
  failure = "";
  for (const queue of queues) {
    const failed = await change(app, `${address(queue)}/${what}`, "POST", () => done, undone);
    failure ||= failed;
  }
  await read(app);
}

/** The queues of all processes with this consumer: where one pauses, the others would go on. */
const everywhere = (queue) => list.queues.filter(({ log, consumer }) => log === queue.log && consumer === queue.consumer);
const inAll = (all) => (all.length === 1 ? "" : ` in ${plural(all.length, "process", "processes")}`);

function pause(app, queue) {
  const all = everywhere(queue);
  confirm(app, {
    title: `Pause ${queue.consumer}?`,
    text: html`It takes no more waves of <b>${queue.pattern}</b>${inAll(all)}; those that run go on. A process that starts later is not paused.`,
    verb: "Pause it",
    run: () => steer(app, all, "pause", `${queue.consumer} is paused.`, `${queue.consumer} was not paused`),
  });
}

function resume(app, queue) {
  const all = everywhere(queue);
  confirm(app, {
    title: `Resume ${queue.consumer}?`,
    text: html`It takes waves of <b>${queue.pattern}</b> again${inAll(all)}.`,
    verb: "Resume it",
    run: () => steer(app, all, "resume", `${queue.consumer} goes on.`, `${queue.consumer} was not resumed`),
  });
}

function retryAll(app, queue) {
  const all = everywhere(queue).filter(({ retrying }) => retrying > 0);
  const waves = all.reduce((sum, { retrying }) => sum + retrying, 0);
  confirm(app, {
    title: `Retry what fails in ${queue.consumer}?`,
    text: html`<b>${plural(waves, "wave")}</b> that pause after a failure${inAll(all)} are due now.`,
    verb: "Retry",
    run: () => steer(app, all, "retry", `What failed in ${queue.consumer} is due now.`, `The waves of ${queue.consumer} were not retried`),
  });
}

function retry(app, queue, { position, channel }) {
  confirm(app, {
    title: `Retry wave ${position}?`,
    text: html`The wave on <b>${channel}</b> is due now, and not only when its pause is over.`,
    verb: "Retry it",
    run: () => steer(app, [queue], `retry?position=${position}`, `Wave ${position} is due now.`, `Wave ${position} was not retried`),
  });
}

function cancel(app, queue, { position, channel }) {
  confirm(app, {
    title: `Cancel wave ${position}?`,
    text: html`<b>${queue.consumer}</b> does not handle the wave on <b>${channel}</b> any more. It becomes a dead letter.`,
    verb: "Make it a dead letter",
    isDanger: true,
    run: () => steer(app, [queue], `cancel?position=${position}`, `Wave ${position} is a dead letter now.`, `Wave ${position} was not cancelled`),
  });
}

function unschedule(app, { store, key: name, channel, schedule }) {
  const run = async () => {
    failure = await change(app, `/api/schedules/${store}/${encodeURIComponent(name)}/unschedule`, "POST", () => `The schedule ${name} has ended.`, `The schedule ${name} was not ended`);
    await read(app);
  };
  confirm(app, {
    title: `End the schedule ${name}?`,
    text: html`No wave on <b>${channel}</b> comes any more by <b>${schedule}</b>.`,
    verb: "End it",
    isDanger: true,
    run,
  });
}

export function draw(app) {
  if (app.history.second - asked >= EVERY) read(app);
  const silent = list?.stores.filter((store) => store.error) ?? [];
  return html`<div class="head"><h1>Queues</h1><div class="actions"><button @click=${() => read(app)} title="key r">Read again</button></div></div>
    <p class="quiet">What waits, runs and fails in the consumers of durable logs. Services that are built <code>.with_letters()</code> answer for those of their process.</p>
    ${failure ? html`<p class="card error" role="alert">${failure} <button class="small" @click=${() => { failure = ""; app.draw(); }}>Close</button></p>` : nothing}
    ${error ? html`<p class="card error" role="alert">${error}</p>` : nothing}
    ${silent.map((store) => html`<p class="card error">${store.service} (${store.store}) did not answer: ${store.error}</p>`)}
    ${list === null ? html`<p class="quiet">Asking the services.</p>` : html`${queues(app)}${schedules(app)}`}`;
}

function queues(app) {
  const shown = list.queues.filter(({ pattern }) => !app.filter || overlap(app.filter, pattern));
  return html`<section class="card" aria-labelledby="h-queues"><h2 id="h-queues">${list.queues.length === 0 ? "Queues" : plural(shown.length, "queue")}</h2>
    ${list.queues.length === 0
      ? empty("No queues", html`A queue is a consumer of a durable log: waves wait for it, also while it does not run, and come again after a failure. <a href=${DOCS}>A job queue</a> is a program with one.`, "")
      : shown.length === 0 ? html`<p class="quiet">None takes waves of ${app.filter}.</p>` : table(app, shown)}
    ${list.hidden > 0 ? html`<p class="note">${plural(list.hidden, "queue")} of channels that the token does not let you hear.</p>` : nothing}
    ${list.more ? html`<p class="note">There are more.</p>` : nothing}</section>`;
}

function table(app, shown) {
  return html`<div class="scroll" tabindex="0"><table><thead><tr><th>consumer</th><th>service</th><th class="number">wait</th><th class="number">the oldest</th><th class="number">run</th><th class="number">fail</th><th class="number">next due</th><th class="number">dead letters</th><th class="number">done</th><th><span class="hidden">actions</span></th></tr></thead>
    <tbody>${shown.map((queue) => row(app, queue))}</tbody></table></div>`;
}

const time = (ms) => (ms === null ? "–" : span(ms / 1000));

function row(app, queue) {
  const isOpen = address(queue) === opened;
  return html`<tr class=${isOpen ? "chosen" : ""}><td><button class="link" aria-expanded=${isOpen} title="Show what runs and what fails" @click=${() => toggle(app, queue)}><b>${queue.consumer}</b></button>
      ${queue.paused ? badge("paused", "warn") : nothing} <span class="pattern">${queue.pattern}</span></td>
    <td>${queue.service}</td>
    <td class="number">${queue.unseen > 0 ? html`<span title="Not all of the log was looked at yet">${count(queue.waiting)} to ${count(queue.waiting + queue.unseen)}</span>` : count(queue.waiting)}${queue.limited > 0 ? html` <small title="Of these wait for a limit of their tenants">${count(queue.limited)} limited</small>` : nothing}</td>
    <td class="number">${time(queue.waiting > 0 ? queue.oldest_ms : null)}</td>
    <td class="number">${count(queue.in_flight)}${queue.longest_ms === null ? nothing : html` <small title="The longest runs for">${time(queue.longest_ms)}</small>`}</td>
    <td class="number">${queue.retrying > 0 ? badge(count(queue.retrying), "warn") : 0}</td>
    <td class="number">${time(queue.due_ms)}</td>
    <td class="number">${queue.letters > 0 ? html`<a href="#letters" title="The dead letters of these channels" @click=${() => app.narrow(queue.pattern)}>${badge(count(queue.letters), "bad")}</a>` : 0}</td>
    <td class="number">${rate(queue.per_second)}/s</td>
    <td><div class="row-actions">${queue.retrying > 0 ? html`<button class="small" @click=${() => retryAll(app, queue)}>Retry</button>` : nothing}
      ${queue.paused ? html`<button class="small" @click=${() => resume(app, queue)}>Resume</button>` : html`<button class="small" @click=${() => pause(app, queue)}>Pause</button>`}</div></td></tr>
    ${isOpen ? html`<tr class="detail"><td colspan="10">${detail(app, queue)}</td></tr>` : nothing}`;
}

function detail(app, queue) {
  return html`<dl><dt>log</dt><dd>${queue.log}</dd><dt>order</dt><dd>${queue.by_key ? "waves of one key one after the other" : "none: waves are handled side by side"}</dd>
    <dt>done by this process</dt><dd>${plural(queue.done, "wave")}</dd></dl>
    ${jobs?.of === opened ? waves(app, queue) : html`<p class="quiet">Asking the service.</p>`}`;
}

function waves(app, queue) {
  return html`${jobs.jobs.length === 0 ? html`<p class="note">Nothing runs, and nothing pauses after a failure.</p>` : html`<table class="waiting"><thead><tr><th class="number">position</th><th>channel</th><th>key</th><th class="number">attempt</th><th></th><th>why it failed</th><th><span class="hidden">actions</span></th></tr></thead>
    <tbody>${jobs.jobs.map((job) => html`<tr><td class="number">${count(job.position)}</td><td>${job.channel || html`<span class="quiet">not in the log any more</span>`}</td><td>${job.key ?? "–"}</td><td class="number">${count(job.attempt)}</td>
      <td>${job.running_ms === null ? `due in ${time(job.due_ms ?? 0)}` : `runs for ${time(job.running_ms)}`}</td><td class="wrap">${job.error ?? "–"}</td>
      <td><div class="row-actions">${job.running_ms === null ? html`<button class="small" @click=${() => retry(app, queue, job)}>Retry</button><button class="small danger" @click=${() => cancel(app, queue, job)}>Cancel</button>` : nothing}</div></td></tr>`)}</tbody></table>`}
    ${jobs.hidden > 0 ? html`<p class="note">${plural(jobs.hidden, "wave")} of channels that the token does not let you hear.</p>` : nothing}
    ${jobs.more ? html`<p class="note">The first ${plural(jobs.jobs.length, "wave")}; there are more.</p>` : nothing}`;
}

function schedules(app) {
  const shown = planned.schedules.filter(({ channel }) => matches(app.filter, channel));
  if (planned.schedules.length === 0 && planned.hidden === 0) return nothing;
  const now = app.views.overview?.unix_ms ?? Date.now();
  return html`<section class="card" aria-labelledby="h-schedules"><h2 id="h-schedules">${plural(shown.length, "schedule")}</h2>
    ${shown.length === 0 ? html`<p class="quiet">None${app.filter ? ` on ${app.filter}` : ""}.</p>` : html`<div class="scroll" tabindex="0"><table><thead><tr><th>key</th><th>schedule</th><th>channel</th><th>log</th><th class="number">next in</th><th><span class="hidden">actions</span></th></tr></thead>
      <tbody>${shown.map((one) => html`<tr><td><b>${one.key}</b></td><td>${one.schedule}</td><td>${channelLink(app, one.channel)}</td><td>${one.log}</td><td class="number">${span((one.next_unix_ms - now) / 1000)}</td>
        <td><div class="row-actions"><button class="small danger" @click=${() => unschedule(app, one)}>End</button></div></td></tr>`)}</tbody></table></div>`}
    ${planned.hidden > 0 ? html`<p class="note">${plural(planned.hidden, "schedule")} of channels that the token does not let you hear.</p>` : nothing}
    ${planned.more ? html`<p class="note">There are more.</p>` : nothing}</section>`;
}
