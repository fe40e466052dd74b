// The services: every process with its account, every vibrator with what it hears, what beats regularly, and fringes.

import { matches, overlap } from "./channels.js";
import { badge, channelLink, empty, html, nothing, spark } from "./widgets.js";
import { LOSING, count, lost, millis, plural, rate, span } from "./format.js";
import * as operations from "./operations.js";

let physics = null;
let searched = "";
let asked = 0;
/** Processes and vibrators whose details are shown. */
const opened = new Set();

export function open(app) {
  app.link.watch("services");
  app.link.watch("ledger");
  asked = 0;
}

export function close(app) {
  app.link.unwatch("services");
  app.link.unwatch("ledger");
}

export function back() {
  asked = 0;
}

async function findings(app) {
  asked = Math.max(1, app.history.second);
  try {
    physics = await app.link.fetch("/api/findings");
  } catch {
    physics = null; // detection is off, or the gateway is away
  }
  app.draw();
}

const floor = (value) => (value === 0 ? "open" : value.toFixed(3));

export function draw(app) {
  const [view, ledger] = [app.views.services, app.views.ledger];
  const title = html`<div class="head"><h1>Services</h1><label class="find"><span class="hidden">Find a service</span>
    <input data-find type="search" placeholder="find a service" .value=${searched} @input=${(event) => { searched = event.target.value.trim().toLowerCase(); app.draw(); }}></label></div>`;
  if (!view) return html`${title}<p class="quiet">Reading who is there.</p>`;
  // Without detection there is nothing to ask for.
  if (app.views.overview?.physics && (asked === 0 || app.history.second - asked > 10)) findings(app);
  const has = (...texts) => !searched || texts.some((text) => text.toLowerCase().includes(searched));
  const rates = new Map((ledger?.accounts.processes ?? []).map((process) => [process.process, process]));
  const named = byName(view).filter((one) => one.patterns.some(({ pattern }) => overlap(app.filter, pattern)) || (!app.filter && one.patterns.length === 0));
  const names = new Set(named.map(({ name }) => name));
  const inboxNames = (process) => (process.account.inboxes ?? []).map((inbox) => inbox.vibrator);
  const processes = view.processes.filter((process) => has(process.process, ...inboxNames(process)) && (!app.filter || inboxNames(process).some((name) => names.has(name))));
  const vibrators = named.filter((one) => has(one.name, ...one.patterns.map(({ pattern }) => pattern)));
  return html`${title}
    <section class="card" aria-labelledby="h-processes"><h2 id="h-processes">Processes${app.filter ? html` <small>that hear ${app.filter}</small>` : nothing}</h2>${processes.length === 0
      ? app.filter ? html`<p class="quiet">None that has told about itself.</p>` : empty("No process has told about itself", "Processes tell their account every five seconds.", "")
      : html`<div class="scroll" tabindex="0"><table><thead><tr><th>process</th><th>standing</th><th class="number">up</th><th class="number">offered/s</th><th class="spark-cell">5 min</th><th class="number">lost/s</th><th class="spark-cell">5 min</th><th class="number">lost</th><th class="number">queued</th><th class="number">floor</th><th>handlers</th><th>version</th></tr></thead>
        <tbody>${processes.map((process) => [row(app, process, rates), opened.has(process.process) ? inboxes(process) : nothing])}</tbody></table></div>`}
      ${view.left_out > 0 ? html`<p class="note">${plural(view.left_out, "more process or vibrator", "more processes and vibrators")} would not fit; <a href="/api/accounts">all accounts</a></p>` : nothing}</section>
    <section class="card" aria-labelledby="h-vibrators"><h2 id="h-vibrators">Vibrators</h2>${vibrators.length === 0
      ? app.filter ? html`<p class="quiet">Nobody hears ${app.filter}.</p>` : empty("Nobody hears anything", "A vibrator is listed as soon as it is tuned to a channel.", "")
      : html`<div class="scroll" tabindex="0"><table><thead><tr><th>vibrator</th><th>in</th><th>hears</th><th class="number">offered</th><th class="spark-cell">5 min</th><th class="number">lost</th><th class="spark-cell">5 min</th><th class="number">queued</th><th class="number">floor</th></tr></thead>
        <tbody>${vibrators.map((one) => [vibrator(app, one), opened.has(`v ${one.name}`) ? html`<tr class="detail"><td colspan="9">${operations.draw(one.name)}</td></tr>` : nothing])}</tbody></table></div>
        <p class="note">Click one for its operations: what it receives, answers and emits. All of them as <a href="/asyncapi.json">AsyncAPI</a>.</p>`}</section>
    <section class="card" aria-labelledby="h-beats"><h2 id="h-beats">Heartbeats</h2>${heart(app, has)}</section>
    <section class="card" aria-labelledby="h-fringes"><h2 id="h-fringes">Fringes</h2>${fringes(app, has)}</section>`;
}

/** The vibrators of one name together: what they hear, and what all processes tell about their inboxes. */
function byName(view) {
  const all = new Map();
  const of = (name) => all.get(name) ?? all.set(name, { name, instances: 0, patterns: [], more: 0, floor: 0, processes: [], offered: 0, lost: 0, queued: 0 }).get(name);
  for (const { name, hears, more, effective_floor: least } of view.vibrators) {
    const one = of(name);
    one.instances += 1;
    one.more += more;
    one.floor = Math.max(one.floor, least);
    for (const heard of hears) {
      if (!one.patterns.some(({ pattern, group }) => pattern === heard.pattern && group === heard.group)) one.patterns.push(heard);
    }
  }
  for (const { process, account } of view.processes) {
    for (const { vibrator, ledger: { offered = 0, delivered = 0, queued = 0 } } of account.inboxes ?? []) {
      if (!all.has(vibrator)) continue;
      const one = of(vibrator);
      one.processes.push(process);
      one.offered += offered;
      one.lost += offered - delivered - queued;
      one.queued += queued;
    }
  }
  const pasts = new Map((view.pasts ?? []).map((past) => [past.vibrator, past]));
  for (const one of all.values()) one.past = pasts.get(one.name);
  return [...all.values()];
}

/** A line of the last minutes; an empty cell where all numbers are zero. */
const past = (values, tone, label) => (values?.some((value) => value > 0) ? spark(values, { tone, label, steps: true }) : nothing);

function row(app, process, rates) {
  const { failed, left, breakers_open: open, received } = process.handlers;
  const now = rates.get(process.process) ?? process;
  const loses = (now.lost_per_second ?? 0) >= LOSING;
  const [name, instance] = split(process.process);
  return html`<tr class=${loses ? "now" : ""}><td><button class="link" aria-expanded=${opened.has(process.process)} title="Show its inboxes" @click=${() => toggle(app, process.process)}><b>${name}</b></button> <small>${instance}</small></td>
    <td>${process.standing === "present" ? badge("present", "good") : badge(process.standing, process.standing === "silent" ? "warn" : "")}
      ${process.suspicion ? badge(process.suspicion.replaceAll("_", " "), "bad") : nothing}</td>
    <td class="number">${span(process.uptime_seconds)}</td>
    <td class="number">${now.offered_per_second == null ? "–" : rate(now.offered_per_second)}</td>
    <td class="spark-cell">${past(process.past?.offered, "flow", `offered to ${name} in the last five minutes`)}</td>
    <td class="number">${now.lost_per_second == null ? "–" : rate(now.lost_per_second)}</td>
    <td class="spark-cell">${past(process.past?.lost, "lost", `lost by ${name} in the last five minutes`)}</td>
    <td class="number">${count(lost(process.inboxes) + lost(process.outbox))}</td>
    <td class="number">${count(process.inboxes.queued + process.outbox.queued)}</td>
    <td class="number">${floor(process.effective_floor)}</td>
    <td>${received === 0 && left === 0 ? html`<span class="quiet">none</span>` : `${count(received)} handled${failed > 0 ? `, ${count(failed)} failed` : ""}`} ${open > 0 ? badge(plural(open, "circuit open", "circuits open"), "bad") : nothing}</td>
    <td>${process.version}</td></tr>`;
}

/** A name may contain `@`: the last one is the separator. */
function split(process) {
  const at = process.lastIndexOf("@");
  return [process.slice(0, at), process.slice(at + 1)];
}

function toggle(app, id) {
  if (!opened.delete(id)) opened.add(id);
  app.draw();
}

/** What each vibrator of a process was offered and lost. Counts of zero are left out of an account. */
function inboxes({ account: { inboxes: all = [], left_out: others } }) {
  const lines = others ? [...all, { vibrator: plural(others.names, "other"), ...others }] : all;
  if (lines.length === 0) return html`<tr class="detail"><td colspan="12" class="quiet">It has no inboxes.</td></tr>`;
  return html`<tr class="detail"><td colspan="12"><table><thead><tr><th>vibrator</th><th class="number">inboxes</th><th class="number">offered</th><th class="number">delivered</th><th class="number">lost</th><th class="number">queued</th><th class="number">floor</th></tr></thead>
    <tbody>${lines.map(({ vibrator, open = 0, floor: least = 0, ledger: { offered = 0, delivered = 0, queued = 0 } }) => html`<tr><td>${vibrator}</td><td class="number">${count(open)}</td>
      <td class="number">${count(offered)}</td><td class="number">${count(delivered)}</td><td class="number">${count(offered - delivered - queued)}</td><td class="number">${count(queued)}</td><td class="number">${floor(least)}</td></tr>`)}</tbody></table></td></tr>`;
}

/** On these a service answers about itself: its description and its dead letters. */
const isOwn = (pattern) => /^aether\.(descriptions|letters)\./.test(pattern);

function vibrator(app, one) {
  const id = `v ${one.name}`;
  const show = () => {
    if (!opened.has(id)) operations.read(app);
    toggle(app, id);
  };
  const programs = [...new Set(one.processes.map((process) => split(process)[0]))];
  const where = one.processes.length > 1 ? html`${programs.join(", ")} <small>${plural(one.processes.length, "process", "processes")}</small>` : programs[0] ?? html`<span class="quiet">not told yet</span>`;
  return html`<tr class=${(one.past?.lost.at(-1) ?? 0) >= LOSING ? "now" : ""}>
    <td><button class="link" aria-expanded=${opened.has(id)} title="Show its operations" @click=${show}><b>${one.name}</b></button>${one.instances > 1 ? html` <small>× ${count(one.instances)}</small>` : nothing}</td>
    <td>${where}</td>
    <td class="wrap">${one.patterns.filter(({ pattern }) => !isOwn(pattern)).map((heard) => html`<span class="pattern">${heard.pattern}${heard.group ? html`<small> group ${heard.group}</small>` : nothing}</span> `)}${one.more > 0 ? `and ${count(one.more)} more` : nothing}${one.patterns.some(({ pattern }) => isOwn(pattern))
      ? html`<small title=${one.patterns.filter(({ pattern }) => isOwn(pattern)).map(({ pattern }) => pattern).join(", ")}>questions about itself</small>` : nothing}</td>
    <td class="number">${count(one.offered)}</td><td class="spark-cell">${past(one.past?.offered, "flow", `offered to ${one.name} in the last five minutes`)}</td>
    <td class="number">${count(one.lost)}</td><td class="spark-cell">${past(one.past?.lost, "lost", `lost by ${one.name} in the last five minutes`)}</td>
    <td class="number">${count(one.queued)}</td><td class="number">${floor(one.floor)}</td></tr>`;
}

function heart(app, has) {
  if (physics === null) return html`<p class="quiet">Detection is switched off, or has not looked yet.</p>`;
  const shown = physics.standing.filter((beat) => has(beat.channel, beat.source) && matches(app.filter, beat.channel));
  if (shown.length === 0) return html`<p class="quiet">No stream${app.filter ? ` on ${app.filter}` : ""} beats regularly.</p>`;
  return html`<div class="scroll" tabindex="0"><table><thead><tr><th>channel</th><th>source</th><th class="number">every</th><th class="number">regularity</th><th class="number">beats</th></tr></thead>
    <tbody>${shown.map((beat) => html`<tr><td>${channelLink(app, beat.channel)}</td><td>${beat.source}</td><td class="number">${millis(1000 * beat.period_seconds)}</td>
      <td class="number">${Math.round(100 * beat.regularity)} %</td><td class="number">${count(beat.beats)}</td></tr>`)}</tbody></table></div>`;
}

/** Keys of which several sources claim the same at once: the latest changes. */
function fringes(app, has) {
  if (physics === null) return html`<p class="quiet">Detection is switched off, or has not looked yet.</p>`;
  const shown = physics.fringes.filter((fringe) => has(fringe.key, fringe.channel) && matches(app.filter, fringe.channel));
  if (shown.length === 0) return html`<p class="quiet">None${app.filter ? ` on ${app.filter}` : " yet"}. A fringe rises where several sources claim the same of one key within a short time, and falls when they retract it or their claims fade.</p>`;
  const said = { rise: ["rises", "bad"], changed: ["changes", "warn"], fall: ["falls", "good"], forgotten: ["is forgotten", ""] };
  const who = (fringe) => [...new Set(fringe.claims.filter((claim) => claim.asserts).map((claim) => split(claim.wave)[0]))];
  return html`<div class="scroll" tabindex="0"><table><thead><tr><th>channel</th><th>key</th><th></th><th class="number">amplitude</th><th class="number">agreement</th><th class="number">sources</th><th>by</th><th class="number">ago</th></tr></thead>
    <tbody>${shown.map((fringe) => html`<tr><td>${channelLink(app, fringe.channel)}</td><td class="wrap"><b>${fringe.key}</b>${fringe.lit > 1 ? html` <small title=${fringe.keys.join(", ")}>and ${plural(fringe.lit - 1, "other key")}</small>` : nothing}</td>
      <td>${badge(...(said[fringe.kind] ?? [fringe.kind]))}</td><td class="number">${fringe.amplitude.toFixed(2)}</td><td class="number">${Math.round(100 * fringe.coherence)} %</td>
      <td class="number">${count(fringe.sources)}</td><td class="wrap">${who(fringe).slice(0, 6).join(", ")}</td><td class="number">${span(fringe.seconds_ago)}</td></tr>`)}</tbody></table></div>`;
}
