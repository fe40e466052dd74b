// The ledger: what was offered is what was delivered, lost or waits. The page adds it up itself and says whether it does.

import { badge, html, notByChannel, nothing } from "./widgets.js";
import { count, lost, meaning, reason } from "./format.js";

export function open(app) {
  app.link.watch("ledger");
}

export function close(app) {
  app.link.unwatch("ledger");
}

export function draw(app) {
  const view = app.views.ledger;
  const title = html`<h1>Ledger${notByChannel(app, "A queue holds waves of several channels.")}</h1>`;
  if (!view) return html`${title}<p class="quiet">Reading the ledgers.</p>`;
  const { programs, processes, known } = view.accounts;
  const inboxes = programs.map((program) => ({ name: program.program, ledger: program.inboxes, unsettled: program.unsettled }));
  const outboxes = programs.filter((program) => program.outbox.offered > 0)
    .map((program) => ({ name: program.program, ledger: program.outbox, unsettled: 0, hasGone: program.silent + program.ended > 0 }));
  return html`${title}
    <p class="quiet">Every wave that was offered to a queue was delivered or lost, or still waits. Nothing else can happen to it.</p>
    ${table("h-inboxes", "Inboxes, by program", inboxes, true)}
    ${outboxes.length > 0 ? table("h-outboxes", "Outboxes to the network, by program", outboxes, true) : nothing}
    ${table("h-processes", processes.length < known ? `Inboxes of the ${count(processes.length)} processes that lose most, of ${count(known)}` : "Inboxes, by process",
      processes.map((process) => ({ name: process.process, ledger: process.inboxes, unsettled: 0 })), false)}
    ${table("h-own", "Inboxes of the gateway's process", view.own_inboxes.map((inbox) => ({ name: inbox.vibrator, ledger: inbox.ledger, unsettled: 0 })), false)}
    ${failures(view)}`;
}

function table(id, title, rows, sums) {
  if (rows.length === 0) return nothing;
  const all = rows.reduce((sum, row) => add(sum, row), { name: "all", ledger: { offered: 0, delivered: 0, shed: {}, lost_upstream: 0, queued: 0 }, unsettled: 0, hasGone: false });
  return html`<section class="card" aria-labelledby=${id}><h2 id=${id}>${title}</h2>
    <div class="scroll" tabindex="0"><table class="ledger"><thead><tr><th></th><th class="number">offered</th><th class="number">= delivered</th><th>+ lost, by reason</th><th class="number">+ queued</th><th></th></tr></thead>
    <tbody>${rows.map(line)}</tbody>${sums && rows.length > 1 ? html`<tfoot>${line(all)}</tfoot>` : nothing}</table></div></section>`;
}

function add(sum, { ledger, unsettled, hasGone }) {
  sum.hasGone ||= hasGone;
  for (const name of ["offered", "delivered", "lost_upstream", "queued"]) sum.ledger[name] += ledger[name];
  for (const [why, waves] of Object.entries(ledger.shed)) sum.ledger.shed[why] = (sum.ledger.shed[why] ?? 0) + waves;
  sum.unsettled += unsettled;
  return sum;
}

/** What was queued in an outbox when its process went is not known, so such a line cannot add up. */
function verdict(missing, hasGone) {
  if (missing === 0) return badge("adds up", "good");
  if (missing > 0 && hasGone) return badge(`${count(missing)} in processes that are gone`);
  return badge(`off by ${count(Math.abs(missing))}`, "warn");
}

function line({ name, ledger, unsettled, hasGone }) {
  const why = Object.entries({ ...ledger.shed, lost_upstream: ledger.lost_upstream }).filter(([, waves]) => waves > 0);
  const accounted = ledger.delivered + lost(ledger) + ledger.queued + unsettled;
  return html`<tr><td>${name}</td><td class="number">${count(ledger.offered)}</td><td class="number">${count(ledger.delivered)}</td>
    <td>${why.length === 0 ? html`<span class="quiet">0</span>` : why.map(([which, waves], at) => html`${at > 0 ? " + " : ""}<span class="lost" title=${meaning(which)}>${count(waves)} ${reason(which)}</span>`)}</td>
    <td class="number">${count(ledger.queued)}${unsettled > 0 ? html` <small title="queued in processes that are gone">+ ${count(unsettled)} unsettled</small>` : nothing}</td>
    <td>${verdict(ledger.offered - accounted, hasGone)}</td></tr>`;
}

function failures({ medium, reflected, dead_letters: letters }) {
  const facts = [
    ["commands and questions that failed", reflected.waves],
    ["of these, told to their source", reflected.echoed],
    ["dead letters kept in this process", letters.kept],
    ["dead letters given up for lack of room", letters.overflowed],
    ["waves without a confirmation of the server", medium.unconfirmed_waves],
    ["malformed messages", medium.malformed_messages],
    ["messages that said what cannot be true", medium.implausible_messages],
    ["streams of senders that were forgotten, whose losses may not be counted", medium.forgotten_streams],
    ["waves held back until receivers have room", medium.held_waves],
    ["pauses that receivers asked for", medium.pauses],
    ["connections to the server so far", medium.connects],
  ];
  return html`<section class="card" aria-labelledby="h-failures"><h2 id="h-failures">The gateway's own connection</h2>
    <dl class="facts">${facts.map(([name, number]) => html`<div><dt>${name}</dt><dd>${count(number)}</dd></div>`)}</dl></section>`;
}
