// The overview: what is lost and why first, then incidents, what flows, and who is there.

import { badge, bar, channelLink, empty, html, notByChannel, nothing, repeat, spark, TimeChart } from "./widgets.js";
import { LOSING, bytes, clock, count, meaning, plural, rate, reason, short, span, unready } from "./format.js";
import { concerns, matches } from "./channels.js";
import { firstWave } from "./first_wave.js";

const chart = new TimeChart([["Waves a second", "--flow"]], { height: 160 });
const RANGES = [[120, "2 min"], [600, "10 min"], [3600, "1 h"]];
let range = 120;
const MOST_CHANNELS = 12;
const QUEUES = "A queue holds waves of several channels, so losses are not known by channel.";

export function draw(app) {
  const view = app.views.overview;
  if (!view) return html`<h1 class="hidden">Overview</h1><p class="quiet">Connecting to the gateway.</p>`;
  const incidents = view.incidents.filter((incident) => concerns(app.filter, incident));
  const open = incidents.filter((incident) => incident.is_open);
  const said = verdict(view, open);
  return html`
    <h1 class="verdict ${said.tone}"><span class="verdict-mark" aria-hidden="true">${said.mark}</span><span>${said.text}</span></h1>
    ${tiles(app, view, incidents, open)}
    ${attention(view)}
    <div class="columns">
      <section class="card" aria-labelledby="h-lost"><h2 id="h-lost">What is lost, and why${notByChannel(app, QUEUES)}</h2>${losses(view)}</section>
      <section class="card" aria-labelledby="h-incidents"><h2 id="h-incidents">Incidents</h2>${incidentList(app, view, incidents)}</section>
    </div>
    ${view.flow.waves === 0 ? nothing : flow(app)}
    <div class="columns wide-left">
      <section class="card" aria-labelledby="h-channels"><h2 id="h-channels">What flows</h2>${channels(app, view)}</section>
      <section class="card" aria-labelledby="h-who"><h2 id="h-who">Who is there${notByChannel(app, "A program handles several channels.")}</h2>${programs(view)}</section>
    </div>
    ${happened(app, view)}
    <p class="foot">Aether ${view.version}, up ${span(view.uptime_seconds)}.
      <a href="/status">Page without scripts</a> · <a href="/openapi.json">API</a> · <a href="/metrics">Metrics</a> · <kbd>?</kbd> has the keys</p>`;
}

export function after(app) {
  const element = document.getElementById("flow-chart");
  if (element) chart.draw(element, app.history.since(range, app.filter, "waves"), range);
}

function verdict(view, open) {
  const severe = open.filter((incident) => incident.severity === "critical").length;
  const now = view.losses.per_second;
  const trouble = unready(view);
  if (trouble) return { tone: "bad", mark: "!", text: trouble.title };
  if (now >= LOSING) {
    const [worst] = view.losses.places.toSorted((a, b) => b.lost_per_second - a.lost_per_second);
    const where = worst ? `, most in ${worst.program}` : "";
    const [why] = Object.entries(view.losses.lately).sort(([, a], [, b]) => b - a);
    return { tone: "bad", mark: "!", text: `Losing ${rate(now)} waves a second${where}${why ? `: ${reason(why[0])}` : ""}.` };
  }
  if (severe > 0) return { tone: "bad", mark: "!", text: `${plural(severe, "critical incident")} now: ${firstOf(open)}` };
  if (open.length > 0) return { tone: "warn", mark: "!", text: `${plural(open.length, "incident")} now: ${firstOf(open)}` };
  const [concern, ...more] = view.attention;
  if (concern) return { tone: "warn", mark: "!", text: `${capital(concern.text)}${more.length > 0 ? `, and ${plural(more.length, "other concern")}` : ""}.` };
  if (view.flow.waves === 0) return { tone: "", mark: "·", text: "Nothing has been emitted yet." };
  const before = view.losses.waves > 0 ? ` ${count(view.losses.waves)} waves were lost before.` : "";
  return { tone: "good", mark: "✓", text: `All is well: nothing is being lost, no incident.${before}` };
}

/** What the most severe incident says, without what to do. */
function firstOf(open) {
  const worst = open.find((incident) => incident.severity === "critical") ?? open[0];
  return `${worst.text.split("; ")[0]}.`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Concerns that need a look, in addition to losses and incidents. */
function attention({ attention: concerns }) {
  if (concerns.length === 0) return nothing;
  return html`<section class="card" aria-labelledby="h-attention"><h2 id="h-attention">Look at</h2>
    <ul class="events">${concerns.map((concern) => html`<li>${badge(concern.sort.replaceAll("_", " "), "warn")} <span class="event-text">${concern.text}</span></li>`)}</ul></section>`;
}

function tile(name, tone, number, unit, more, line = nothing) {
  return html`<div class="tile ${tone}"><div><p class="tile-name">${name}</p>
    <p class="tile-number">${number}<small>${unit}</small></p></div>${line}<p class="tile-more">${more}</p></div>`;
}

function tiles(app, view, incidents, open) {
  const { losses: lost, flow } = view;
  const [losing, flowing] = [app.history.even("lost", 120), app.filter ? app.history.sum(app.filter, "waves", 120) : app.history.even("waves", 120)];
  const present = view.programs.reduce((sum, program) => sum + program.present, 0);
  const gone = view.programs.reduce((sum, program) => sum + program.silent, 0);
  const severity = open.some((incident) => incident.severity === "critical") ? "bad" : open.length > 0 ? "warn" : "";
  const energy = html`<span title="The sum of the amplitudes: rate times importance">energy ${rate(app.history.now("energy", app.filter))}/s</span>`;
  return html`<div class="tiles">
    ${tile("Lost", lost.per_second >= LOSING ? "bad" : "", rate(lost.per_second), "/s", `${short(lost.waves)} in all`,
      losing.some((many) => many > 0) ? spark(losing, { tone: "lost", label: "losses of the last two minutes", steps: true }) : nothing)}
    ${tile("Incidents now", severity, view.physics ? count(open.length) : "–", "",
      view.physics ? `${count(incidents.length - open.length)} ended lately` : "detection is off")}
    ${tile("Flowing", "", rate(app.history.now("waves", app.filter)), "/s",
      app.filter ? html`${energy}, of ${app.filter}` : html`${energy}, ${short(flow.waves)} in all, ${bytes(flow.payload_bytes)}`,
      spark(flowing, { label: "waves of the last two minutes" }))}
    ${tile("There", "", count(present), present === 1 ? " process" : " processes",
      `${plural(view.vibrators, "vibrator")}, ${plural(flow.known_channels, "channel")}${gone > 0 ? `, ${count(gone)} silent` : ""}`)}
  </div>`;
}

function losses(view) {
  const { places, waves } = view.losses;
  if (places.length === 0) {
    return html`<p class="fine"><span aria-hidden="true">✓</span> Nothing. Every wave that was offered to a queue was delivered, or waits.</p>`;
  }
  const most = Math.max(...places.map((place) => place.waves));
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th>where</th><th>why</th><th class="number">waves</th><th class="meter-cell"><span class="hidden">share</span></th></tr></thead>
    <tbody>${places.slice(0, 8).map(
      (place) => html`<tr class=${place.lost_per_second >= LOSING ? "now" : ""}>
        <td>${place.program}<small> ${place.queue}</small>${place.lost_per_second >= LOSING
          ? html` ${badge(`loses ${rate(place.lost_per_second)}/s now`, "bad")}` : nothing}</td>
        <td title=${meaning(place.reason)}>${reason(place.reason)}</td>
        <td class="number">${count(place.waves)}</td>
        <td class="meter-cell">${bar(place.waves / most, "lost", `${Math.round((100 * place.waves) / waves)} percent of all losses`)}</td></tr>`,
    )}</tbody></table></div>
    <p class="note">${meaning(places[0].reason) ? html`<b>${reason(places[0].reason)}</b>: ${meaning(places[0].reason)}.` : nothing}
      <a href="#ledger">The whole ledger</a></p>`;
}

function incidentList(app, view, incidents) {
  if (!view.physics) return html`<p class="quiet">Detection is switched off in this gateway.</p>`;
  if (incidents.length === 0) {
    return html`<p class="fine"><span aria-hidden="true">✓</span> None${app.filter ? ` on ${app.filter}` : ""}. Services that stopped, retry storms and lasting losses would stand here.</p>`;
  }
  return html`<ul class="incidents">${incidents.slice(0, 6).map(
    (incident) => html`<li class="incident ${incident.is_open ? incident.severity : "over"}">
      <p class="incident-head">${badge(incident.is_open ? incident.severity : "ended", incident.is_open ? (incident.severity === "critical" ? "bad" : "warn") : "")}
        <b>${incident.cause.replaceAll("_", " ")}</b>
        <span class="quiet">${incident.is_open ? `for ${span(incident.seconds)}` : `${span(incident.seconds)} long, ${span(incident.seconds_ago)} ago`}</span></p>
      <p>${incident.text}</p>
      ${incident.findings.length > 1
        ? html`<details><summary>${plural(incident.findings.length, "finding")}</summary><ul>${incident.findings.map((text) => html`<li>${text}</li>`)}</ul></details>`
        : nothing}</li>`,
  )}</ul><p class="note"><a href="#incidents">All incidents and findings</a></p>`;
}

/** The newest entries of the log of the gateway. */
function happened(app, { log }) {
  if (log.entries.length === 0) return nothing;
  const tone = { critical: "bad", warning: "warn", info: "" };
  return html`<section class="card" aria-labelledby="h-log"><h2 id="h-log">What happened${notByChannel(app, "The log is about the whole system.")}</h2>
    <ul class="events">${log.entries.map((entry) => html`<li><time title=${new Date(entry.unix_ms).toLocaleString()}>${clock(entry.unix_ms).slice(0, 8)}</time>
      ${badge(entry.kind.replaceAll("_", " "), tone[entry.severity])}
      <span class="event-text">${entry.text.replace(`: ${entry.about}`, `: ${reason(entry.about)}`)}</span>
      <span class="quiet">${entry.count > 1 ? `× ${count(entry.count)}` : nothing}</span></li>`)}</ul>
    <p class="note">All that is kept: <a href="/api/log">/api/log</a></p></section>`;
}

function flow(app) {
  return html`<section class="card" aria-labelledby="h-flow"><div class="head"><h2 id="h-flow">Waves a second${app.filter ? html` <small>${app.filter}, of which five minutes are kept</small>` : nothing}</h2>
    <div class="segments" role="group" aria-label="Time span">${RANGES.map(
      ([seconds, name]) => html`<button aria-pressed=${range === seconds} @click=${() => { range = seconds; app.draw(); }}>${name}</button>`,
    )}</div></div>
    <div class="chart" id="flow-chart" role="img" aria-label="Waves a second over time"></div></section>`;
}

function channels(app, view) {
  if (view.flow.waves === 0) return empty("No wave yet", "Emit the first one from a shell, or with the form on the page Waves (key 3):", firstWave(app));
  const sum = (list) => list.reduce((all, value) => all + value, 0);
  const rows = [...app.history.channels.keys()].filter((name) => matches(app.filter, name)).map((name) => {
    const past = app.history.of(name, "waves");
    return { name, past, now: sum(past.slice(-10)) / 10, energy: sum(app.history.of(name, "energy", 10)) / 10, all: sum(past) };
  });
  rows.sort((a, b) => b.all - a.all || a.name.localeCompare(b.name));
  const shown = rows.slice(0, MOST_CHANNELS);
  if (shown.length === 0) return html`<p class="quiet">No waves${app.filter ? ` on ${app.filter}` : ""} in the last minutes.</p>`;
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th>channel</th><th class="number">a second</th><th class="number wide-only" title="The sum of the amplitudes: rate times importance">energy</th><th class="spark-cell">last minute</th></tr></thead>
    <tbody>${repeat(shown, (row) => row.name, (row) => html`<tr>
      <td>${channelLink(app, row.name)}</td>
      <td class="number">${rate(row.now)}</td><td class="number wide-only">${rate(row.energy)}</td>
      <td class="spark-cell">${spark(row.past, { label: `${row.name} in the last minute` })}</td></tr>`)}</tbody></table></div>
    <p class="note">Energy is rate times amplitude: how much that matters flows.
    ${rows.length > shown.length ? html`And ${plural(rows.length - shown.length, "more channel")}: <a href="#spectrum">Spectrum</a>` : nothing}</p>`;
}

function programs(view) {
  if (view.programs.length === 0) return html`<p class="quiet">Processes tell about themselves every five seconds.</p>`;
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th>program</th><th class="number">processes</th><th class="number" title="To its queues">offered/s</th><th class="number">lost/s</th></tr></thead>
    <tbody>${view.programs.map((program) => html`<tr class=${program.lost_per_second >= LOSING ? "now" : ""}>
      <td>${program.program} ${program.handlers.breakers_open > 0 ? badge("circuit open", "warn") : nothing}</td>
      <td class="number">${count(program.present)}${program.silent > 0 ? html` ${badge(`${count(program.silent)} silent`, "warn")}` : nothing}${program.present === 0 && program.silent === 0 ? badge("ended") : nothing}</td>
      <td class="number">${rate(program.offered_per_second)}</td>
      <td class="number">${rate(program.lost_per_second)}</td></tr>`)}</tbody></table></div>
    <p class="note"><a href="#map">Who depends on whom</a></p>`;
}
