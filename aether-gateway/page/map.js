// The map: services and channels as a graph from left to right. Width is rate, colour is loss, a dashed line is a guess.

import dagre from "./vendor/dagre.js";
import { empty, html, nothing, svg } from "./widgets.js";
import { clock, count, millis, plural, rate } from "./format.js";
import { Playback } from "./playback.js";
import { show } from "./waves.js";

const HEIGHT = 34;
const LETTER = 7;
const LONGEST = 26;
const ARROW = 10;

let layout = null;
let shape = "";
let chosen = null;
const past = new Playback();

export function open(app) {
  app.link.watch("map");
}

export function close(app) {
  app.link.unwatch("map");
  chosen = null;
  past.end();
}

export function draw(app) {
  const view = app.views.map;
  const title = html`<h1>Map</h1>`;
  if (!view) return html`${title}<p class="quiet">Reading who emits and who hears.</p>`;
  const graph = past.isOn ? asItWas(narrowed(app, view)) : narrowed(app, view);
  if (graph.nodes.length === 0) {
    return html`${title}<section class="card">${empty("Nobody is there yet", "Services appear as soon as they emit or hear a channel.", "aether alpha --medium nats://127.0.0.1:4222")}</section>`;
  }
  place(graph);
  return html`${title}
    <section class="card flush" aria-label="Graph">
      <div class="head padded"><p class="quiet">${plural(view.services.length, "service")} and ${plural(view.channels.length, "channel")}. Who emits was seen, who hears was announced. A wider line has more waves.</p>
        ${past.isOn ? nothing : html`<button class="small" @click=${() => past.begin(app)}>Play back the last hour</button>`}
        <p class="legend whole" aria-hidden="true"><span class="key service">service</span><span class="key-line emits">emits on</span><span class="key channel">channel</span>
          <span class="key-line">is heard by</span><span class="key-line causes">guessed by timing</span><span class="key loss">loses waves</span></p></div>
      ${playback(app)}
      <div class="graph" tabindex="0" aria-label="The graph, which scrolls">${picture(app, graph)}</div>
      <p class="hint padded" aria-live="polite">${chosen ? about(chosen) : "Point at a line for its rate and lag. Click it to see its waves."}</p>
      ${view.left_out > 0 ? html`<p class="note padded">${plural(view.left_out, "more channel or service", "more channels and services")} would not fit.</p>` : nothing}
    </section>
    <section class="card" aria-labelledby="h-edges"><h2 id="h-edges">What causes what</h2>${causes(app, view)}</section>`;
}

/** The same graph with the rates of a moment. Of the past only the rates of channels are known: a line has that of its channel. */
function asItWas({ nodes, edges }) {
  return {
    nodes: nodes.map((node) => (node.kind === "channel" ? { ...node, rate: past.rate(node.name) } : { ...node, lost: 0 })),
    edges: edges.map((edge) => ({ ...edge, rate: past.rate(edge.channel), lag: undefined })),
  };
}

function playback(app) {
  if (!past.isOn) return past.error ? html`<p class="playback padded error" role="alert">${past.error}</p>` : nothing;
  const move = (event) => {
    past.pause();
    past.at = Number(event.target.value);
    app.draw();
  };
  const toggle = () => {
    if (past.isPlaying) past.pause();
    else past.play(app);
    app.draw();
  };
  return html`<div class="playback padded"><button class="small" @click=${toggle}>${past.isPlaying ? "Pause" : "Play"}</button>
    <input type="range" min="0" max=${past.length - 1} .value=${String(past.at)} @input=${move} aria-label="Time" aria-valuetext=${clock(past.unixMs).slice(0, 8)}>
    <output id="moment"><b>${clock(past.unixMs).slice(0, 8)}</b> ${rate(past.waves)} waves/s, ${rate(past.lost)} lost/s</output>
    <button class="small" @click=${() => { past.end(); app.draw(); }}>Back to now</button>
    <span class="quiet">Rates of channels; who lost what is not kept.</span></div>`;
}

/** The nodes and edges that are shown. */
function narrowed(app, view) {
  const isShown = (channel) => !app.filter || channel === app.filter || follows(view, app.filter, channel);
  const channels = view.channels.filter((channel) => isShown(channel.name));
  const names = new Set(channels.map((channel) => channel.name));
  const rates = new Map(channels.map((channel) => [channel.name, channel.waves_per_second]));
  const emits = view.emits.filter((edge) => names.has(edge.channel));
  const hears = view.hears.filter((edge) => names.has(edge.channel));
  const services = new Set([...emits, ...hears].map((edge) => edge.service));
  const known = new Map(view.services.map((service) => [service.name, service]));
  const nodes = [
    ...[...services].map((name) => ({ id: `s ${name}`, name, kind: "service", ...known.get(name) })),
    ...channels.map(({ name }) => ({ id: `c ${name}`, name, kind: "channel", rate: rates.get(name) })),
  ];
  const lags = causesOf(view).filter((edge) => edge.handlers.length > 0);
  const edges = [
    ...emits.map((edge) => ({ from: `s ${edge.service}`, to: `c ${edge.channel}`, rate: edge.waves_per_second, ...edge, kind: "emits" })),
    ...hears.map((edge) => {
      const lag = lags.filter((cause) => cause.from === edge.channel && cause.handlers.includes(edge.service)).map((cause) => cause.median_lag_ms);
      return { from: `c ${edge.channel}`, to: `s ${edge.service}`, rate: edge.waves_per_second, lag: Math.min(...lag), ...edge, kind: "hears" };
    }),
  ];
  for (const cause of causesOf(view)) {
    if (cause.handlers.length > 0 || !names.has(cause.from) || !names.has(cause.to)) continue;
    edges.push({ from: `c ${cause.from}`, to: `c ${cause.to}`, rate: cause.waves_a_second, kind: "causes", cause, channel: cause.to, lag: cause.median_lag_ms });
  }
  return { nodes, edges };
}

function causesOf(view) {
  return view.causes?.edges ?? [];
}

function follows(view, from, to) {
  return causesOf(view).some((edge) => (edge.from === from && edge.to === to) || (edge.from === to && edge.to === from));
}

function cut(name) {
  return name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
}

/** Lays out anew only if there are other nodes or edges, so the picture does not jump while rates change. */
function place({ nodes, edges }) {
  const isNarrow = innerWidth < 700;
  const now = JSON.stringify([isNarrow, nodes.map((node) => node.id), edges.map((edge) => [edge.from, edge.to])]);
  if (now === shape) return;
  shape = now;
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "LR", nodesep: 16, ranksep: isNarrow ? 36 : 64, marginx: 14, marginy: 14 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.id, { width: Math.max(70, cut(node.name).length * LETTER + 26), height: HEIGHT });
  edges.forEach((edge, at) => graph.setEdge(edge.from, edge.to, {}, String(at)));
  dagre.layout(graph);
  layout = graph;
}

function isLosing(node) {
  return node.lost > 0 && node.lost / Math.max(node.offered, 1) >= 0.001;
}

function picture(app, { nodes, edges }) {
  const { width, height } = layout.graph();
  const losing = new Set(nodes.filter(isLosing).map((node) => node.id));
  return html`<svg class="map" viewBox="0 0 ${width} ${height}" width=${width} height=${height} role="group" aria-label="Services and channels">
    <defs>${["hears", "emits", "causes", "bad"].map((tone) => svg`<marker id="arrow-${tone}" viewBox="0 0 8 8" refX="0" refY="4" markerUnits="userSpaceOnUse" markerWidth=${ARROW} markerHeight=${ARROW} orient="auto"><path class="arrow ${tone}" d="M0 0 8 4 0 8z"/></marker>`)}</defs>
    ${edges.map((edge, at) => line(app, edge, layout.edge({ v: edge.from, w: edge.to, name: String(at) }), losing))}
    ${nodes.map((node) => box(app, node, layout.node(node.id)))}</svg>`;
}

/** Ends where the arrow begins, or a wide line would show beside its tip. */
function path(points) {
  const [first, ...rest] = shortened(points);
  let d = `M${first.x.toFixed(1)} ${first.y.toFixed(1)}`;
  for (let at = 0; at < rest.length - 1; at += 1) {
    const [here, next] = [rest[at], rest[at + 1]];
    const last = at === rest.length - 2;
    const end = last ? next : { x: (here.x + next.x) / 2, y: (here.y + next.y) / 2 };
    d += `Q${here.x.toFixed(1)} ${here.y.toFixed(1)} ${end.x.toFixed(1)} ${end.y.toFixed(1)}`;
  }
  return d;
}

function shortened(points) {
  const [before, end] = points.slice(-2);
  const [x, y] = [end.x - before.x, end.y - before.y];
  const keep = Math.max(0, 1 - ARROW / Math.max(1, Math.hypot(x, y)));
  return [...points.slice(0, -1), { x: before.x + keep * x, y: before.y + keep * y }];
}

function line(app, edge, placed, losing) {
  if (!placed) return nothing;
  const isBad = edge.kind === "hears" && losing.has(edge.to);
  const d = path(placed.points);
  const width = 1.2 + Math.min(6, Math.log10(1 + edge.rate) * 2);
  const tone = isBad ? "bad" : edge.kind;
  const look = () => { chosen = edge; app.draw(); };
  return svg`<g class="edge ${edge.kind} ${edge.rate < 0.01 ? "still" : ""} ${isBad ? "bad" : ""} ${chosen && same(chosen, edge) ? "chosen" : ""}">
    <path class="stroke" d=${d} stroke-width=${width} marker-end="url(#arrow-${tone})"/>
    <path class="touch" d=${d} tabindex="0" role="link" aria-label=${title(edge)} @pointerenter=${look} @focus=${look}
      @click=${() => open_(app, edge)} @keydown=${(event) => event.key === "Enter" && open_(app, edge)}></path></g>`;
}

function same(a, b) {
  return a.from === b.from && a.to === b.to && a.kind === b.kind;
}

function open_(app, edge) {
  show(app, edge.channel, edge.kind === "emits" ? edge.service : "");
}

function title(edge) {
  if (edge.kind === "emits") return `${edge.service} emits ${edge.channel}, ${rate(edge.rate)} a second`;
  if (edge.kind === "hears") return `${edge.service} hears ${edge.channel}, ${rate(edge.rate)} a second`;
  return `${edge.cause.from} causes ${edge.cause.to}`;
}

function about(edge) {
  const lag = Number.isFinite(edge.lag) ? `, next wave after ${millis(edge.lag)} (median)` : "";
  const sure = edge.cause ? ` (${edge.cause.tier === "L0" ? "exact" : `${Math.round(100 * edge.cause.confidence)} % sure`})` : "";
  return html`<b>${title(edge)}</b>${lag}${sure}`;
}

function box(app, node, { x, y, width }) {
  const isService = node.kind === "service";
  const bad = isLosing(node);
  const text = isService
    ? `${node.name}: ${count(node.offered ?? 0)} offered, ${count(node.lost ?? 0)} lost, ${count(node.queued ?? 0)} queued`
    : `${node.name}: ${rate(node.rate)} waves a second`;
  return svg`<g class="node ${node.kind} ${bad ? "bad" : ""}" transform="translate(${x - width / 2} ${y - HEIGHT / 2})">
    <title>${text}</title>
    <rect width=${width} height=${HEIGHT} rx=${isService ? 7 : HEIGHT / 2}/>
    <text class="name" x=${width / 2} y=${isService && !bad ? HEIGHT / 2 : HEIGHT / 2 - 6} text-anchor="middle" dominant-baseline="central">${cut(node.name)}</text>
    ${isService && !bad ? nothing : svg`<text class="sub" x=${width / 2} y=${HEIGHT / 2 + 8} text-anchor="middle" dominant-baseline="central">${bad ? `${count(node.lost)} lost` : `${rate(node.rate)}/s`}</text>`}
  </g>`;
}

function causes(app, view) {
  if (!view.causes) return html`<p class="quiet">Detection is switched off, or has not looked yet.</p>`;
  const edges = causesOf(view).filter((edge) => !app.filter || edge.from === app.filter || edge.to === app.filter);
  if (edges.length === 0) return html`<p class="quiet">No channel was seen to cause another one.</p>`;
  edges.sort((a, b) => b.waves_a_second - a.waves_a_second || a.from.localeCompare(b.from));
  return html`<div class="scroll"><table><thead><tr><th>channel</th><th>causes</th><th>through</th><th class="number">a second</th><th class="number">lag</th><th>how we know</th></tr></thead>
    <tbody>${edges.slice(0, 100).map((edge) => html`<tr>
      <td><button class="link" @click=${() => show(app, edge.from, "")}>${edge.from}</button></td>
      <td><button class="link" @click=${() => show(app, edge.to, "")}>${edge.to}</button></td>
      <td>${edge.handlers.join(", ") || html`<span class="quiet">unknown</span>`}</td>
      <td class="number">${rate(edge.waves_a_second)}</td><td class="number">${millis(edge.median_lag_ms)}</td>
      <td>${edge.tier === "L0" ? "named by its waves" : `by timing, ${Math.round(100 * edge.confidence)} % sure`}</td></tr>`)}</tbody></table></div>`;
}
