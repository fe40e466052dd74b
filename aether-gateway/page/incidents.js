// The incidents with their streams, and the findings behind them: missing beats, fringes, polling, retry storms, relations.

import { concerns, matches } from "./channels.js";
import { badge, channelLink, html, nothing } from "./widgets.js";
import { count, plural, span } from "./format.js";

const AS_TEST = `aether record today.rec --medium nats://SERVER:4222
aether physics --replay today.rec --as-test tests/incident.rs`;

let sort = "";

export function draw(app) {
  const view = app.views.overview;
  const title = html`<h1>Incidents</h1>`;
  if (!view) return html`${title}<p class="quiet">Connecting to the gateway.</p>`;
  if (!view.physics) return html`${title}<p class="card">Detection is switched off in this gateway: it was started with <code>--no-physics</code>.</p>`;
  const incidents = view.incidents.filter((incident) => concerns(app.filter, incident));
  const open = incidents.filter((incident) => incident.is_open);
  const ended = incidents.filter((incident) => !incident.is_open);
  return html`${title}
    <section class="card" aria-labelledby="h-open"><h2 id="h-open">Now</h2>${open.length === 0
      ? html`<p class="fine"><span aria-hidden="true">✓</span> None. An incident is what somebody should look at: a service that stopped, a retry storm, a stream that fell silent.</p>`
      : html`<ul class="incidents">${open.map((incident) => one(app, incident))}</ul>`}</section>
    <section class="card" aria-labelledby="h-ended"><h2 id="h-ended">Ended</h2>${ended.length === 0
      ? html`<p class="quiet">None since the gateway started, ${span(view.uptime_seconds)} ago.</p>`
      : html`<ul class="incidents">${ended.map((incident) => one(app, incident))}</ul>`}</section>
    <section class="card" aria-labelledby="h-findings"><h2 id="h-findings">Findings</h2>${findings(app, view)}</section>`;
}

function one(app, incident) {
  const tone = incident.severity === "critical" ? "bad" : "warn";
  return html`<li class="incident ${incident.is_open ? incident.severity : "over"}">
    <p class="incident-head">${badge(incident.is_open ? incident.severity : `${incident.severity}, ended`, incident.is_open ? tone : "")}
      <b>${incident.cause.replaceAll("_", " ")}</b>
      <span class="quiet">${incident.is_open ? `for ${span(incident.seconds)}` : `${span(incident.seconds)} long, ended ${span(incident.seconds_ago)} ago`}</span></p>
    <p>${incident.text}</p>
    <dl>${names(incident.services, "services", (name) => name)}
      ${names(incident.streams, "silent or affected", (name) => channelLink(app, name))}
      ${names(incident.followers, "channels that follow", (name) => channelLink(app, name))}
      ${names(incident.unheard, "not heard any more", (name) => channelLink(app, name))}
      ${names(incident.waiting, "waiting for answers", (name) => name)}</dl>
    ${incident.findings.length > 0
      ? html`<details><summary>${plural(incident.findings.length, "finding")}</summary><ul>${incident.findings.map((text) => html`<li>${text}</li>`)}</ul></details>`
      : nothing}
    <details><summary>as a test</summary><p>The gateway keeps no waves of an incident. Record the bus; when it happens again, the second command writes a Rust test of it.</p>
      <pre><code>${AS_TEST}</code></pre></details></li>`;
}

function names(list, title, show) {
  return list.length === 0 ? nothing : html`<dt>${title}</dt><dd>${list.map((name, at) => html`${at > 0 ? ", " : ""}${show(name)}`)}</dd>`;
}

/** The text of a finding begins with its sort, which has a column of its own. */
function withoutSort({ sort, text }) {
  const begin = `${sort.replaceAll("_", " ")}: `;
  return text.startsWith(begin) ? text.slice(begin.length) : text;
}

function findings(app, view) {
  const sorts = [...new Set(view.findings.map((finding) => finding.sort))].sort();
  if (sorts.length === 0) return html`<p class="quiet">None yet. Detectors need some traffic before they know what is usual.</p>`;
  const isShown = (finding) => (!sort || finding.sort === sort) && (!app.filter || finding.text.split(/[\s,;:()]+/).some((word) => word !== "" && matches(app.filter, word.replace(/\.$/, ""))));
  const choose = (name) => () => {
    sort = sort === name ? "" : name;
    app.draw();
  };
  const shown = view.findings.filter(isShown);
  return html`<div class="segments" role="group" aria-label="Sorts of findings">${sorts.map(
      (name) => html`<button aria-pressed=${sort === name} @click=${choose(name)}>${name.replaceAll("_", " ")}</button>`)}</div>
    ${shown.length === 0 ? html`<p class="note">None of these among the last ${count(view.findings.length)}.</p>` : html`
    <div class="scroll" tabindex="0"><table><thead><tr><th>sort</th><th>what</th><th class="number">ago</th></tr></thead>
      <tbody>${shown.map((finding) => html`<tr><td>${finding.sort.replaceAll("_", " ")}</td><td class="wrap">${withoutSort(finding)}</td>
        <td class="number">${span(finding.seconds_ago)}</td></tr>`)}</tbody></table></div>`}
    <p class="note">The last ${count(view.findings.length)} findings, the newest first. What beats regularly is on <a href="#services">Services</a>.</p>`;
}
