// The services: every process with its account, every vibrator with what it hears, and what beats regularly.

import { badge, empty, html, nothing } from "./widgets.js";
import { count, lost, millis, plural, rate, span } from "./format.js";

let beats = null;
let searched = "";
let asked = 0;
/** Processes whose inboxes are shown. */
const opened = new Set();

export function open(app) {
  app.link.watch("services");
  app.link.watch("ledger");
  heartbeats(app);
}

export function close(app) {
  app.link.unwatch("services");
  app.link.unwatch("ledger");
}

export function back(app) {
  heartbeats(app);
}

async function heartbeats(app) {
  asked = app.history.second;
  try {
    beats = (await app.link.fetch("/api/findings")).standing;
  } catch {
    beats = null; // detection is off, or the gateway is away
  }
  app.draw();
}

const floor = (value) => (value === 0 ? "open" : value.toFixed(3));

export function draw(app) {
  const [view, ledger] = [app.views.services, app.views.ledger];
  const title = html`<div class="head"><h1>Services</h1><label class="find"><span class="hidden">Find a service</span>
    <input data-find type="search" placeholder="find a service" .value=${searched} @input=${(event) => { searched = event.target.value.trim().toLowerCase(); app.draw(); }}></label></div>`;
  if (!view) return html`${title}<p class="quiet">Reading who is there.</p>`;
  if (app.history.second - asked > 10) heartbeats(app);
  const has = (...texts) => !searched || texts.some((text) => text.toLowerCase().includes(searched));
  const rates = new Map((ledger?.accounts.processes ?? []).map((process) => [process.process, process]));
  const processes = view.processes.filter((process) => has(process.process, ...(process.account.inboxes ?? []).map((inbox) => inbox.vibrator)));
  const vibrators = view.vibrators.filter((vibrator) => has(vibrator.name, ...vibrator.hears.map((heard) => heard.pattern)));
  return html`${title}
    <section class="card" aria-labelledby="h-processes"><h2 id="h-processes">Processes</h2>${processes.length === 0
      ? empty("No process has told about itself", "Processes tell their account every five seconds.", "")
      : html`<div class="scroll"><table><thead><tr><th>process</th><th>standing</th><th class="number">up</th><th class="number">offered/s</th><th class="number">lost/s</th><th class="number">lost</th><th class="number">queued</th><th class="number">floor</th><th>handlers</th><th>version</th></tr></thead>
        <tbody>${processes.map((process) => [row(app, process, rates), opened.has(process.process) ? inboxes(process) : nothing])}</tbody></table></div>`}
      ${view.left_out > 0 ? html`<p class="note">${plural(view.left_out, "more process or vibrator", "more processes and vibrators")} would not fit; <a href="/api/accounts">all accounts</a></p>` : nothing}</section>
    <section class="card" aria-labelledby="h-vibrators"><h2 id="h-vibrators">Vibrators</h2>${vibrators.length === 0
      ? empty("Nobody hears anything", "A vibrator is listed as soon as it is tuned to a channel.", "")
      : html`<div class="scroll" tabindex="0"><table><thead><tr><th>vibrator</th><th>hears</th><th class="number">floor</th></tr></thead>
        <tbody>${vibrators.map(vibrator)}</tbody></table></div>`}
      <p class="note">What services receive, answer and emit, as <a href="/asyncapi.json">AsyncAPI</a>.</p></section>
    <section class="card" aria-labelledby="h-beats"><h2 id="h-beats">Heartbeats</h2>${heart(beats, has)}</section>`;
}

function row(app, process, rates) {
  const { failed, left, breakers_open: open, received } = process.handlers;
  const now = rates.get(process.process) ?? process;
  const loses = (now.lost_per_second ?? 0) >= 0.05;
  return html`<tr class=${loses ? "now" : ""}><td><button class="link" aria-expanded=${opened.has(process.process)} title="Show its inboxes" @click=${() => { if (!opened.delete(process.process)) opened.add(process.process); app.draw(); }}><b>${process.process.split("@")[0]}</b></button> <small>${process.process.split("@")[1]}</small></td>
    <td>${process.standing === "present" ? badge("present", "good") : badge(process.standing, process.standing === "silent" ? "warn" : "")}
      ${process.suspicion ? badge(process.suspicion.replaceAll("_", " "), "bad") : nothing}</td>
    <td class="number">${span(process.uptime_seconds)}</td>
    <td class="number">${now.offered_per_second == null ? "–" : rate(now.offered_per_second)}</td>
    <td class="number">${now.lost_per_second == null ? "–" : rate(now.lost_per_second)}</td>
    <td class="number">${count(lost(process.inboxes) + lost(process.outbox))}</td>
    <td class="number">${count(process.inboxes.queued + process.outbox.queued)}</td>
    <td class="number">${floor(process.effective_floor)}</td>
    <td>${received === 0 && left === 0 ? html`<span class="quiet">none</span>` : `${count(received)} handled${failed > 0 ? `, ${count(failed)} failed` : ""}`} ${open > 0 ? badge(plural(open, "circuit open", "circuits open"), "bad") : nothing}</td>
    <td>${process.version}</td></tr>`;
}

/** What each vibrator of a process was offered and lost. Counts of zero are left out of an account. */
function inboxes({ account: { inboxes: all = [], left_out: others } }) {
  const lines = others ? [...all, { vibrator: plural(others.names, "other"), ...others }] : all;
  if (lines.length === 0) return html`<tr class="detail"><td colspan="10" class="quiet">It has no inboxes.</td></tr>`;
  return html`<tr class="detail"><td colspan="10"><table><thead><tr><th>vibrator</th><th class="number">inboxes</th><th class="number">offered</th><th class="number">delivered</th><th class="number">lost</th><th class="number">queued</th><th class="number">floor</th></tr></thead>
    <tbody>${lines.map(({ vibrator, open = 0, floor: least = 0, ledger: { offered = 0, delivered = 0, queued = 0 } }) => html`<tr><td>${vibrator}</td><td class="number">${count(open)}</td>
      <td class="number">${count(offered)}</td><td class="number">${count(delivered)}</td><td class="number">${count(offered - delivered - queued)}</td><td class="number">${count(queued)}</td><td class="number">${floor(least)}</td></tr>`)}</tbody></table></td></tr>`;
}

function vibrator(vibrator) {
  return html`<tr><td><b>${vibrator.name}</b> <small>${vibrator.instance}</small></td>
    <td class="wrap">${vibrator.hears.map((heard) => html`<span class="pattern">${heard.pattern}${heard.group ? html`<small> group ${heard.group}</small>` : nothing}</span> `)}${vibrator.more > 0 ? `and ${count(vibrator.more)} more` : nothing}</td>
    <td class="number">${floor(vibrator.effective_floor)}</td></tr>`;
}

function heart(beats, has) {
  if (beats === null) return html`<p class="quiet">Detection is switched off, or has not looked yet.</p>`;
  const shown = beats.filter((beat) => has(beat.channel, beat.source));
  if (shown.length === 0) return html`<p class="quiet">No stream beats regularly.</p>`;
  return html`<div class="scroll" tabindex="0"><table><thead><tr><th>channel</th><th>source</th><th class="number">every</th><th class="number">regularity</th><th class="number">beats</th></tr></thead>
    <tbody>${shown.map((beat) => html`<tr><td>${beat.channel}</td><td>${beat.source}</td><td class="number">${millis(1000 * beat.period_seconds)}</td>
      <td class="number">${Math.round(100 * beat.regularity)} %</td><td class="number">${count(beat.beats)}</td></tr>`)}</tbody></table></div>`;
}
