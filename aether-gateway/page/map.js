// The map: services and channels as a graph from left to right. Width is rate, colour is loss, a dashed line is a guess.

import { empty, html, nothing, svg } from "./widgets.js";
import { LOSING, clock, count, millis, plural, rate } from "./format.js";
import { matches } from "./channels.js";
import { arrow, cut, path, placed } from "./layout.js";
import { Playback } from "./playback.js";
import { firstWave } from "./first_wave.js";
import { show } from "./waves.js";

/** How much larger than drawn the graph may become to fill its card, and how much smaller to fit into it. */
const LARGEST = 1.3;
const SMALLEST = 0.92;

/** The line that is pointed at, by its id. */
let chosen = "";
const past = new Playback();

export function open(app) {
  app.link.watch("map");
}

export function close(app) {
  app.link.unwatch("map");
  chosen = "";
  past.end();
}

export function draw(app) {
  const view = app.views.map;
  const title = html`<h1>Map</h1>`;
  if (!view) return html`${title}<p class="quiet">Reading who emits and who hears.</p>`;
  const graph = past.isOn ? asItWas(narrowed(app, view)) : narrowed(app, view);
  if (graph.nodes.length === 0) {
    return html`${title}<section class="card">${app.filter
      ? html`<p class="quiet">Nobody emits or hears ${app.filter}.</p>`
      : empty("Nobody is there yet", "Services appear as soon as they emit or hear a channel. The first wave from a shell:", firstWave(app))}</section>`;
  }
  const edge = graph.edges.find(({ id }) => id === chosen);
  return html`${title}
    <section class="card flush" aria-label="Graph">
      <div class="head padded"><p class="quiet">${plural(view.services.length, "service")} and ${plural(view.channels.length, "channel")}. Who emits was seen, who hears was announced or reads a durable log.</p>
        ${past.isOn ? nothing : html`<button class="small" @click=${() => past.begin(app)}>Play back the last hour</button>`}
        ${legend()}</div>
      ${playback(app)}
      <div class="graph" tabindex="0" aria-label="The graph, which scrolls">${picture(app, graph)}</div>
      <p class="hint padded" id="about" aria-live="polite">${edge ? about(edge) : "Point at a line for its rate and lag. Click it to see its waves."}</p>
      ${view.left_out > 0 ? html`<p class="note padded">${plural(view.left_out, "more channel or service", "more channels and services")} would not fit.</p>` : nothing}
    </section>
    <section class="card" aria-labelledby="h-edges"><h2 id="h-edges">What causes what</h2>${causes(app, view)}</section>`;
}

function legend() {
  return html`<ul class="legend whole map-legend" aria-label="Legend">
    <li><span class="key service">service</span></li><li><span class="key channel">channel</span></li>
    <li class="key-line emits">emits on</li><li class="key-line">is heard by</li><li class="key-line durable">is stored for</li><li class="key-line wide">more waves a second</li>
    <li class="key-line causes">a guess by timing: causes</li>
    <li><span class="key loss">loses waves now</span></li><li><span class="key lost">lost some before</span></li></ul>`;
}

/** The same graph at a moment of the past. Of a service its losses are known, of a channel its rate. */
function asItWas({ nodes, edges }) {
  const lost = (node) => ({ ...node, lost_per_second: past.lostBy(node.name), lost: 0 });
  const before = nodes.map((node) => (node.kind === "channel" ? { ...node, rate: past.rate(node.name) } : lost(node)));
  return { nodes: before, edges: edges.map((edge) => ({ ...edge, rate: past.rate(edge.channel) * edge.share, lag: undefined })) };
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
    <span class="quiet whole">Rates of channels and losses of services as they were, in steps of five seconds. Of a channel with several emitters each has its share of today; lags are not kept.</span></div>`;
}

/** The nodes and edges that are shown. */
function narrowed(app, view) {
  const isShown = (channel) => matches(app.filter, channel) || follows(view, app.filter, channel);
  const channels = view.channels.filter((channel) => isShown(channel.name));
  const names = new Set(channels.map((channel) => channel.name));
  const emits = view.emits.filter((edge) => names.has(edge.channel));
  const hears = view.hears.filter((edge) => names.has(edge.channel));
  const services = new Set([...emits, ...hears].map((edge) => edge.service));
  const known = new Map(view.services.map((service) => [service.name, service]));
  const nodes = [
    ...[...services].map((name) => ({ id: `s ${name}`, name, kind: "service", ...known.get(name) })),
    ...channels.map(({ name, waves_per_second }) => ({ id: `c ${name}`, name, kind: "channel", rate: waves_per_second })),
  ];
  const ofAll = new Map();
  for (const { channel, waves } of view.emits) ofAll.set(channel, (ofAll.get(channel) ?? 0) + waves);
  const all = causesOf(view);
  const edges = [
    ...emits.map(({ service, channel, waves, waves_per_second }) => ({
      id: `emits ${service} ${channel}`, from: `s ${service}`, to: `c ${channel}`, kind: "emits", service, channel,
      rate: waves_per_second, share: waves / Math.max(1, ofAll.get(channel)),
    })),
    ...hears.map(({ service, channel, waves_per_second, log }) => {
      const through = all.filter((cause) => cause.from === channel && cause.handlers.includes(service));
      const [first] = through.sort((a, b) => a.median_lag_ms - b.median_lag_ms);
      return { id: `hears ${service} ${channel} ${log ?? ""}`, from: `c ${channel}`, to: `s ${service}`, kind: "hears", service, channel, log,
        rate: waves_per_second, share: 1, lag: first?.median_lag_ms, cause: first };
    }),
  ];
  // What waves name themselves is the way through the service. Only a guess needs a line of its own.
  const isExact = new Set(all.filter((cause) => cause.tier === "L0").map(({ from, to }) => `${from} ${to}`));
  for (const cause of all) {
    if (cause.tier === "L0" || isExact.has(`${cause.from} ${cause.to}`) || !names.has(cause.from) || !names.has(cause.to)) continue;
    edges.push({ id: `causes ${cause.from} ${cause.to}`, from: `c ${cause.from}`, to: `c ${cause.to}`, kind: "causes", isLoose: true, cause,
      channel: cause.to, rate: cause.waves_a_second, share: 0, lag: cause.median_lag_ms });
  }
  return { nodes, edges };
}

function causesOf(view) {
  return view.causes?.edges ?? [];
}

function follows(view, pattern, channel) {
  return causesOf(view).some((edge) => (matches(pattern, edge.from) && edge.to === channel) || (edge.from === channel && matches(pattern, edge.to)));
}

const losesNow = (node) => (node.lost_per_second ?? 0) >= LOSING;
const lostBefore = (node) => (node.lost ?? 0) > 0;

function picture(app, graph) {
  const { width, height, boxes, lines } = placed(graph, innerWidth < 700);
  const room = Math.min(1280, innerWidth - 42);
  const scale = Math.max(SMALLEST, Math.min(LARGEST, room / width));
  const losing = new Set(graph.nodes.filter(losesNow).map((node) => node.id));
  // Those that lose are drawn last, over the others.
  const edges = [...graph.edges].sort((a, b) => Number(losing.has(a.to)) - Number(losing.has(b.to)));
  return html`<svg class="map" viewBox="0 0 ${width} ${height}" width=${Math.round(width * scale)} height=${Math.round(height * scale)} role="group" aria-label="Services and channels">
    ${edges.map((edge) => line(app, edge, lines.get(edge.id), losing))}
    ${graph.nodes.map((node) => box(node, boxes.get(node.id)))}</svg>`;
}

function line(app, edge, place, losing) {
  if (!place) return nothing;
  const isBad = edge.kind === "hears" && losing.has(edge.to);
  const width = edge.kind === "causes" ? 1.6 : 1.4 + Math.min(5, Math.log10(1 + edge.rate) * 1.6);
  const [long, wide] = [7 + width, 5 + 1.4 * width];
  const d = path(place, long - 1);
  const look = () => { chosen = edge.id; app.draw(); };
  return svg`<g class="edge ${edge.kind} ${edge.log ? "durable" : ""} ${edge.rate < 0.01 ? "still" : ""} ${isBad ? "bad" : ""} ${chosen === edge.id ? "chosen" : ""}">
    <path class="stroke" d=${d} stroke-width=${width.toFixed(1)}/><path class="tip" d=${arrow(place, long, wide)}/>
    <path class="touch" d=${path(place, 0)} tabindex="0" role="link" aria-label=${title(edge)} @pointerenter=${look} @focus=${look}
      @click=${() => open_(app, edge)} @keydown=${(event) => event.key === "Enter" && open_(app, edge)}></path></g>`;
}

function open_(app, edge) {
  show(app, edge.channel, edge.kind === "emits" ? edge.service : "");
}

function title(edge) {
  if (edge.kind === "emits") return `${edge.service} emits ${edge.channel}, ${rate(edge.rate)} a second`;
  if (edge.log) return `${edge.service} reads ${edge.channel} from the durable log ${edge.log}, ${rate(edge.rate)} a second are stored`;
  if (edge.kind === "hears") return `${edge.service} hears ${edge.channel}, ${rate(edge.rate)} a second`;
  const by = edge.cause.handlers.length > 0 ? ` through ${edge.cause.handlers.join(", ")}` : "";
  return `${edge.cause.from} causes ${edge.cause.to}${by}`;
}

const sure = (cause) => (cause.tier === "L0" ? "exact, named by its waves" : `a guess by timing, ${Math.round(100 * cause.confidence)} % sure`);

function about(edge) {
  const next = edge.kind === "hears" && edge.cause ? `, then ${edge.cause.to}` : "";
  const lag = Number.isFinite(edge.lag) ? `${next} after ${millis(edge.lag)} (median)` : "";
  return html`<b>${title(edge)}</b>${lag}${edge.cause ? `: ${sure(edge.cause)}` : ""}`;
}

function box(node, { x, y, width, height }) {
  const isService = node.kind === "service";
  const tone = losesNow(node) ? "bad" : isService && lostBefore(node) ? "faded" : "";
  const said = tone === "bad" ? `loses ${rate(node.lost_per_second)}/s` : tone ? `${count(node.lost)} lost before` : isService ? "" : `${rate(node.rate)}/s`;
  const text = isService
    ? `${node.name}: ${count(node.offered ?? 0)} offered, ${count(node.lost ?? 0)} lost, ${count(node.queued ?? 0)} queued`
    : `${node.name}: ${rate(node.rate)} waves a second`;
  return svg`<g class="node ${node.kind} ${tone}" transform="translate(${(x - width / 2).toFixed(1)} ${(y - height / 2).toFixed(1)})">
    <title>${text}</title>
    <rect width=${width} height=${height} rx=${isService ? 7 : Math.min(19, height / 2)}/>
    <text class="name" x=${width / 2} y=${said ? height / 2 - 7 : height / 2} text-anchor="middle" dominant-baseline="central">${cut(node.name)}</text>
    ${said ? svg`<text class="sub" x=${width / 2} y=${height / 2 + 8} text-anchor="middle" dominant-baseline="central">${said}</text>` : nothing}
  </g>`;
}

function causes(app, view) {
  if (!view.causes) return html`<p class="quiet">Detection is switched off, or has not looked yet.</p>`;
  const edges = causesOf(view).filter((edge) => matches(app.filter, edge.from) || matches(app.filter, edge.to));
  if (edges.length === 0) return html`<p class="quiet">No channel was seen to cause another one.</p>`;
  edges.sort((a, b) => b.waves_a_second - a.waves_a_second || a.from.localeCompare(b.from));
  return html`<div class="scroll" tabindex="0"><table><thead><tr><th>channel</th><th>causes</th><th>through</th><th class="number">a second</th><th class="number">lag</th><th>how we know</th></tr></thead>
    <tbody>${edges.slice(0, 100).map((edge) => html`<tr>
      <td><button class="link" @click=${() => show(app, edge.from, "")}>${edge.from}</button></td>
      <td><button class="link" @click=${() => show(app, edge.to, "")}>${edge.to}</button></td>
      <td>${edge.handlers.join(", ") || html`<span class="quiet">unknown</span>`}</td>
      <td class="number">${rate(edge.waves_a_second)}</td><td class="number">${millis(edge.median_lag_ms)}</td>
      <td>${edge.tier === "L0" ? "named by its waves" : `by timing, ${Math.round(100 * edge.confidence)} % sure`}</td></tr>`)}</tbody></table></div>`;
}
