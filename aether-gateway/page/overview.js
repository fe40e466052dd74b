// The overview: what is lost and why first, then incidents, what flows, and who is there.

import { badge, bar, empty, html, nothing, repeat, spark, TimeChart } from "./widgets.js";
import { bytes, clock, count, meaning, plural, rate, reason, short, span } from "./format.js";

const chart = new TimeChart([["Waves a second", "--flow"]], { height: 130 });
const RANGES = [[120, "2 min"], [600, "10 min"], [3600, "1 h"]];
let range = 600;
const MOST_CHANNELS = 12;

export function draw(app) {
  const view = app.views.overview;
  if (!view) return html`<h1 class="hidden">Overview</h1><p class="quiet">Connecting to the gateway.</p>`;
  const open = view.incidents.filter((incident) => incident.is_open);
  const said = verdict(view, open);
  return html`
    <h1 class="verdict ${said.tone}"><span class="verdict-mark" aria-hidden="true">${said.mark}</span><span>${said.text}</span></h1>
    ${tiles(app, view, open)}
    <div class="columns">
      <section class="card" aria-labelledby="h-lost"><h2 id="h-lost">What is lost, and why</h2>${losses(view)}</section>
      <section class="card" aria-labelledby="h-incidents"><h2 id="h-incidents">Incidents</h2>${incidents(view)}</section>
    </div>
    ${view.flow.waves === 0 ? nothing : flow(app)}
    <div class="columns wide-left">
      <section class="card" aria-labelledby="h-channels"><h2 id="h-channels">What flows</h2>${channels(app, view)}</section>
      <section class="card" aria-labelledby="h-who"><h2 id="h-who">Who is there</h2>${programs(view)}</section>
    </div>
    ${happened(view)}
    <p class="foot">Aether ${view.version}, up ${span(view.uptime_seconds)}.
      <a href="/status">Page without scripts</a> · <a href="/openapi.json">API</a> · <a href="/metrics">Metrics</a> ·
      keys 1–9 change the page, / finds, Esc shows all channels</p>`;
}

export function after(app) {
  const element = document.getElementById("flow-chart");
  if (element) chart.draw(element, app.history.since(range, "waves"));
}

function verdict(view, open) {
  const severe = open.filter((incident) => incident.severity === "critical").length;
  const now = view.losses.per_second;
  if (view.readiness !== "ready") return { tone: "bad", mark: "!", text: "The gateway sees nothing: it has no connection to the bus." };
  if (now >= 0.05) {
    const [worst] = view.losses.places;
    const where = worst ? `, most in ${worst.program}` : "";
    const [why] = Object.entries(view.losses.lately).sort(([, a], [, b]) => b - a);
    return { tone: "bad", mark: "!", text: `Losing ${rate(now)} waves a second${where}${why ? `: ${reason(why[0])}` : ""}.` };
  }
  if (severe > 0) return { tone: "bad", mark: "!", text: `${plural(severe, "critical incident")} now. Nothing is being lost.` };
  if (open.length > 0) return { tone: "warn", mark: "!", text: `${plural(open.length, "incident")} now. Nothing is being lost.` };
  if (view.flow.waves === 0) return { tone: "", mark: "·", text: "Nothing has been emitted yet." };
  const before = view.losses.waves > 0 ? ` ${count(view.losses.waves)} were lost before.` : "";
  return { tone: "good", mark: "✓", text: `All is well: ${rate(view.flow.waves_per_second)} waves a second, nothing is being lost.${before}` };
}

function tiles(app, view, open) {
  const { losses: lost, flow: { second_energy: energy, ...flow } } = view;
  const [, waves, lostPast] = app.history.since(120, "waves", "lost");
  const present = view.programs.reduce((sum, program) => sum + program.present, 0);
  const gone = view.programs.reduce((sum, program) => sum + program.silent, 0);
  const severity = open.some((incident) => incident.severity === "critical") ? "bad" : open.length > 0 ? "warn" : "";
  return html`<div class="tiles">
    <div class="tile ${lost.per_second >= 0.05 ? "bad" : ""}"><p class="tile-name">Lost</p>
      <p class="tile-number">${rate(lost.per_second)}<small>/s</small></p>
      <p class="tile-more">${count(lost.waves)} in all</p>${lostPast.some((many) => many > 0) ? spark(lostPast, { tone: "lost", label: "losses of the last two minutes" }) : nothing}</div>
    <div class="tile ${severity}"><p class="tile-name">Incidents now</p>
      <p class="tile-number">${view.physics ? count(open.length) : "–"}</p>
      <p class="tile-more">${view.physics ? `${count(view.incidents.length - open.length)} ended lately` : "detection is off"}</p></div>
    <div class="tile"><p class="tile-name">Flowing</p>
      <p class="tile-number">${rate(flow.waves_per_second)}<small>/s</small></p>
      <p class="tile-more">${short(flow.waves)} waves, ${bytes(flow.payload_bytes)}, energy ${rate(energy)}/s</p>
      ${spark(waves, { label: "waves of the last two minutes" })}</div>
    <div class="tile"><p class="tile-name">There</p>
      <p class="tile-number">${count(present)}<small> ${present === 1 ? "process" : "processes"}</small></p>
      <p class="tile-more">${plural(view.vibrators, "vibrator")}, ${plural(flow.known_channels, "channel")}${gone > 0 ? `, ${count(gone)} silent` : ""}</p></div>
  </div>`;
}

function losses(view) {
  const { places, waves } = view.losses;
  if (places.length === 0) {
    return html`<p class="fine"><span aria-hidden="true">✓</span> Nothing. Every wave that was offered was delivered, or waits.</p>`;
  }
  const most = Math.max(...places.map((place) => place.waves));
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th>where</th><th>why</th><th class="number">waves</th><th class="meter-cell"><span class="hidden">share</span></th></tr></thead>
    <tbody>${places.slice(0, 8).map(
      (place, at) => html`<tr class=${place.lost_per_second >= 0.05 ? "now" : ""}>
        <td>${place.program}<small> ${place.queue}</small>${place.lost_per_second >= 0.05 && places.findIndex((other) => other.program === place.program) === at
          ? html` ${badge(`loses ${rate(place.lost_per_second)}/s now`, "bad")}` : nothing}</td>
        <td title=${meaning(place.reason)}>${reason(place.reason)}</td>
        <td class="number">${count(place.waves)}</td>
        <td class="meter-cell">${bar(place.waves / most, "lost", `${Math.round((100 * place.waves) / waves)} percent of all losses`)}</td></tr>`,
    )}</tbody></table></div>
    <p class="note">${meaning(places[0].reason) ? html`<b>${reason(places[0].reason)}</b>: ${meaning(places[0].reason)}.` : nothing}
      <a href="#ledger">The whole ledger</a></p>`;
}

function incidents(view) {
  if (!view.physics) return html`<p class="quiet">Detection is switched off in this gateway.</p>`;
  if (view.incidents.length === 0) {
    return html`<p class="fine"><span aria-hidden="true">✓</span> None. Missing beats, retry storms and lost services would stand here.</p>`;
  }
  return html`<ul class="incidents">${view.incidents.slice(0, 6).map(
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
function happened({ log }) {
  if (log.entries.length === 0) return nothing;
  const tone = { critical: "bad", warning: "warn", info: "" };
  return html`<section class="card" aria-labelledby="h-log"><h2 id="h-log">What happened</h2>
    <ul class="events">${log.entries.map((entry) => html`<li><time title=${new Date(entry.unix_ms).toLocaleString()}>${clock(entry.unix_ms).slice(0, 8)}</time>
      ${badge(entry.kind.replaceAll("_", " "), tone[entry.severity])}
      <span class="event-text">${entry.text.replace(`: ${entry.about}`, `: ${reason(entry.about)}`)}</span>
      <span class="quiet">${entry.count > 1 ? `× ${count(entry.count)}` : nothing}</span></li>`)}</ul>
    <p class="note">All that is kept: <a href="/api/log">/api/log</a></p></section>`;
}

function flow(app) {
  return html`<section class="card" aria-labelledby="h-flow"><div class="head"><h2 id="h-flow">Waves a second</h2>
    <div class="segments" role="group" aria-label="Time span">${RANGES.map(
      ([seconds, name]) => html`<button aria-pressed=${range === seconds} @click=${() => { range = seconds; app.draw(); }}>${name}</button>`,
    )}</div></div>
    <div class="chart" id="flow-chart" role="img" aria-label="Waves a second over time"></div></section>`;
}

function channels(app, view) {
  if (view.flow.waves === 0) {
    return empty("No wave yet", "Emit the first one from a shell, or from the page Waves:", `aether emit hello.world '{"n":1}'${view.crosses_processes ? " --medium nats://127.0.0.1:4222" : ""}`);
  }
  const wanted = (name) => !app.filter || name === app.filter;
  const sum = (list) => list.reduce((all, value) => all + value, 0);
  const rows = [...app.history.channels.keys()].filter(wanted).map((name) => {
    const past = app.history.of(name, "waves");
    return { name, past, now: sum(past.slice(-10)) / 10, all: sum(past) };
  });
  rows.sort((a, b) => b.all - a.all || a.name.localeCompare(b.name));
  const shown = rows.slice(0, MOST_CHANNELS);
  if (shown.length === 0) return html`<p class="quiet">No waves in the last minutes.</p>`;
  return html`<div class="scroll"><table>
    <thead><tr><th>channel</th><th class="number">a second</th><th class="spark-cell">last minute</th></tr></thead>
    <tbody>${repeat(shown, (row) => row.name, (row) => html`<tr>
      <td><button class="link" @click=${() => app.narrow(app.filter === row.name ? "" : row.name)} title="Narrow every page to this channel">${row.name}</button></td>
      <td class="number">${rate(row.now)}</td>
      <td class="spark-cell">${spark(row.past, { label: `${row.name} in the last minute` })}</td></tr>`)}</tbody></table></div>
    ${rows.length > shown.length ? html`<p class="note">and ${plural(rows.length - shown.length, "more channel")}: <a href="#spectrum">Spectrum</a></p>` : nothing}`;
}

function programs(view) {
  if (view.programs.length === 0) return html`<p class="quiet">Processes tell about themselves every five seconds.</p>`;
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th>program</th><th class="number">processes</th><th class="number">offered/s</th><th class="number">lost/s</th></tr></thead>
    <tbody>${view.programs.map((program) => html`<tr class=${program.lost_per_second >= 0.05 ? "now" : ""}>
      <td>${program.program} ${program.handlers.breakers_open > 0 ? badge("circuit open", "warn") : nothing}</td>
      <td class="number">${count(program.present)}${program.silent > 0 ? html` ${badge(`${count(program.silent)} silent`, "warn")}` : nothing}${program.present === 0 && program.silent === 0 ? badge("ended") : nothing}</td>
      <td class="number">${rate(program.offered_per_second)}</td>
      <td class="number">${rate(program.lost_per_second)}</td></tr>`)}</tbody></table></div>
    <p class="note"><a href="#map">Who depends on whom</a></p>`;
}
