// The spectrum: channels over time, brightness by energy. A second is a column of a small picture, which is drawn stretched,
// so a frame costs the same for five channels and for five hundred.

import { SECONDS } from "./history.js";
import { color, empty, html, isCalm, mounted, nothing } from "./widgets.js";
import { clock, plural, rate } from "./format.js";

const ROW_FOR_TEXT = 13;
const MOST_ROWS = 600;
const LOUDEST = 10;

/** The picture: a column for each second, a row for each channel. */
const picture = document.createElement("canvas");
let rows = [];
let painted = -1;
let paintedTheme = "";
let selected = null;
let pointed = null;
let running = false;
let arrived = 0;
let lastSecond = -1;
/** What the canvas shows. */
let shown = "";
/** The colours of texts, read once for each theme: reading them costs more than drawing. */
let tones = {};

export function open(app) {
  running = true;
  painted = -1;
  requestAnimationFrame(() => step(app));
}

export function close() {
  running = false;
  pointed = null;
}

export function draw(app) {
  const view = app.views.overview;
  const title = html`<h1>Spectrum</h1>`;
  if (!view || app.history.channels.size === 0) {
    return html`${title}<section class="card">${empty("Nothing to see yet", "Each channel becomes a row, and brightness is energy: rate times amplitude.", "aether emit hello.world '{\"n\":1}'")}</section>`;
  }
  const loudest = [...app.history.channels.keys()]
    .map((name) => ({ name, energy: mean(app.history.of(name, "energy", 10)), waves: mean(app.history.of(name, "waves", 10)) }))
    .sort((a, b) => b.energy - a.energy || a.name.localeCompare(b.name))
    .slice(0, LOUDEST);
  return html`${title}
    <section class="card flush" aria-label="Waterfall">
      <div class="head padded"><p class="quiet">${plural(rows.length, "channel")}, the last ${app.history.seconds === 60 ? "minute" : plural(app.history.seconds / 60, "minute")}. Brightness is energy, rate times amplitude. Click a row to narrow every page to it.</p>
        <p class="legend" aria-hidden="true"><span>quiet</span><canvas id="legend" width="96" height="8" ${mounted(legend)}></canvas><span>loud</span></p></div>
      <canvas id="spectrum" class="spectrum" tabindex="0" role="img"
        aria-label="Waterfall of channels over time. Up and down choose a channel, Enter narrows every page to it. The list below has the loudest."
        @pointermove=${(event) => point(app, event)} @pointerleave=${() => point(app, null)}
        @click=${(event) => choose(app, rowAt(event))} @keydown=${(event) => keys(app, event)}></canvas>
      <p class="hint padded" aria-live="polite">${hint(app)}</p>
    </section>
    <section class="card" aria-labelledby="h-loud"><h2 id="h-loud">Loudest now</h2>
      <div class="scroll"><table><thead><tr><th>channel</th><th class="number">energy/s</th><th class="number">waves/s</th></tr></thead>
      <tbody>${loudest.map((row) => html`<tr><td><button class="link" @click=${() => choose(app, row.name)}>${row.name}</button></td>
        <td class="number">${rate(row.energy)}</td><td class="number">${rate(row.waves)}</td></tr>`)}</tbody></table></div></section>`;
}

function mean(list) {
  return list.reduce((sum, value) => sum + value, 0) / Math.max(list.length, 1);
}

function hint(app) {
  const name = pointed?.name ?? selected;
  if (!name) return "Point at a row, or choose one with the arrow keys.";
  const ago = pointed?.ago ?? 0;
  const ring = app.history.channels.get(name);
  if (!ring) return name;
  const place = (app.history.second - ago + 2 * SECONDS) % SECONDS;
  const when = ago < 1 ? "now" : clock(Date.now() - ago * 1000).slice(0, 8);
  return html`<b>${name}</b> ${when}: ${rate(ring.waves[place])} waves/s, energy ${rate(ring.energy[place])}/s`;
}

function choose(app, name) {
  if (name) app.narrow(app.filter === name ? "" : name);
}

function rowAt(event) {
  const canvas = event.currentTarget;
  const { top, height } = canvas.getBoundingClientRect();
  return rows[Math.floor(((event.clientY - top) / height) * rows.length)];
}

function point(app, event) {
  const name = event && rowAt(event);
  const { left, width } = event?.currentTarget.getBoundingClientRect() ?? {};
  pointed = name ? { name, ago: Math.min(app.history.seconds - 1, Math.max(0, Math.floor((1 - (event.clientX - left) / width) * app.history.seconds))) } : null;
  app.draw();
}

function keys(app, event) {
  const at = rows.indexOf(selected);
  if (event.key === "ArrowDown") selected = rows[Math.min(rows.length - 1, at + 1)];
  else if (event.key === "ArrowUp") selected = rows[Math.max(0, at - 1)];
  else if (event.key === "Enter" && selected) choose(app, selected);
  else return;
  event.preventDefault();
  app.draw();
}

/** From nothing to the loudest, in 256 steps. */
function ramp() {
  const parse = (name) => color(name).match(/\w\w/g).map((two) => parseInt(two, 16));
  const stops = ["--ramp-0", "--ramp-1", "--ramp-2", "--ramp-3"].map(parse);
  return Uint32Array.from({ length: 256 }, (_, step) => {
    const at = (step / 255) * (stops.length - 1);
    const [from, to] = [stops[Math.floor(at)], stops[Math.min(stops.length - 1, Math.floor(at) + 1)]];
    const [r, g, b] = from.map((value, part) => Math.round(value + (to[part] - value) * (at % 1)));
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
}

/** Logarithmic: ten waves a second differ from one as a thousand from a hundred. */
function level(energy) {
  return energy <= 0 ? 0 : Math.min(255, Math.max(24, Math.round(64 + 64 * Math.log10(energy * 2))));
}

function legend(canvas) {
  const context = canvas.getContext("2d");
  const colors = ramp();
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at += 1) pixels[at] = colors[Math.round(((at % canvas.width) / (canvas.width - 1)) * 255)];
  context.putImageData(image, 0, 0);
}

function paint(app) {
  const { history } = app;
  rows = [...history.channels.keys()].filter((name) => !app.filter || name === app.filter).sort().slice(0, MOST_ROWS);
  const seconds = history.seconds;
  picture.width = seconds;
  picture.height = Math.max(1, rows.length);
  const context = picture.getContext("2d");
  const image = context.createImageData(picture.width, picture.height);
  const pixels = new Uint32Array(image.data.buffer);
  const colors = ramp();
  rows.forEach((name, row) => {
    const { energy } = history.channels.get(name);
    for (let column = 0; column < seconds; column += 1) {
      pixels[row * seconds + column] = colors[level(energy[(history.second + 1 + column - seconds + SECONDS) % SECONDS])];
    }
  });
  context.putImageData(image, 0, 0);
}

function step(app) {
  if (!running) return;
  const canvas = document.getElementById("spectrum");
  if (canvas) show(app, canvas);
  else painted = -1;
  if (isCalm()) setTimeout(() => requestAnimationFrame(() => step(app)), 1000);
  else requestAnimationFrame(() => step(app));
}

function show(app, canvas) {
  const theme = color("--ramp-0") + app.filter;
  if (painted !== app.history.second || paintedTheme !== theme) {
    if (lastSecond !== app.history.second) arrived = performance.now();
    lastSecond = app.history.second;
    painted = app.history.second;
    if (paintedTheme !== theme) tones = Object.fromEntries(["--ramp-0", "--label", "--ink", "--accent-solid", "--on-accent"].map((name) => [name, color(name)]));
    paintedTheme = theme;
    paint(app);
    const narrow = canvas.clientWidth < 520;
    const height = Math.max(narrow ? 220 : 300, Math.min(560, rows.length * 20));
    canvas.setAttribute("height", Math.round(height * devicePixelRatio));
    canvas.style.height = `${height}px`;
  }
  const scale = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * scale);
  if (canvas.width !== width) canvas.width = width;
  // Moves evenly between two seconds, unless motion is not wanted.
  const part = isCalm() ? 0 : Math.min(1, (performance.now() - arrived) / 1000);
  const shift = Math.round((part * canvas.width) / picture.width);
  // A frame in which nothing moves by a pixel is not drawn.
  const now = [painted, shift, canvas.width, canvas.height, rows.length, selected, pointed?.name, paintedTheme].join();
  if (now === shown && canvas.dataset.drawn) return;
  shown = now;
  canvas.dataset.drawn = "true";
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = tones["--ramp-0"];
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, -shift, 0, canvas.width, canvas.height);
  texts(context, canvas, scale);
}

function texts(context, canvas, scale) {
  const height = canvas.height / rows.length;
  context.font = `${11 * scale}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const every = Math.max(1, Math.ceil((ROW_FOR_TEXT * scale) / height));
  rows.forEach((name, row) => {
    const isMarked = name === selected || name === pointed?.name;
    if (row % every !== 0 && !isMarked) return;
    const y = (row + 0.5) * height;
    const width = context.measureText(name).width + 10 * scale;
    context.fillStyle = tones[isMarked ? "--accent-solid" : "--label"];
    context.beginPath();
    context.roundRect(4 * scale, y - 8 * scale, width, 16 * scale, 4 * scale);
    context.fill();
    context.fillStyle = tones[isMarked ? "--on-accent" : "--ink"];
    context.fillText(name, 9 * scale, y + 0.5 * scale);
  });
}
