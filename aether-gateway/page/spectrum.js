// The spectrum: channels over time, brightness by energy. A second is a column of a small picture, which the browser stretches
// and moves by itself: the scripts paint once a second, for five channels and for five hundred, and have nothing to do between.

import { matches } from "./channels.js";
import { firstWave } from "./first_wave.js";
import { SECONDS } from "./history.js";
import { channelLink, color, empty, html, isCalm } from "./widgets.js";
import { clock, plural, rate } from "./format.js";

const ROW_FOR_TEXT = 13;
const MOST_ROWS = 600;
const LOUDEST = 10;
const TONES = ["--ramp-0", "--ramp-1", "--ramp-2", "--ramp-3", "--label", "--ink", "--accent-solid", "--on-accent"];
/** Those whose colours are read when the theme changes: reading them costs more than drawing. */
const dark = matchMedia("(prefers-color-scheme: dark)");

let rows = [];
let selected = null;
let pointed = null;
/** What the two canvases show: nothing is painted twice. */
let painted = "";
let written = "";
let tones = null;
let colors = null;
dark.addEventListener("change", () => (tones = null));

export function open() {
  painted = "";
  written = "";
}

export function close() {
  pointed = null;
}

export function draw(app) {
  const view = app.views.overview;
  const title = html`<h1>Spectrum</h1>`;
  if (!view || app.history.channels.size === 0) {
    return html`${title}<section class="card">${empty("Nothing to see yet", "Each channel becomes a row, and brightness is energy: rate times amplitude.", firstWave(app))}</section>`;
  }
  const names = [...app.history.channels.keys()].filter((name) => matches(app.filter, name)).sort();
  rows = names.slice(0, MOST_ROWS);
  if (rows.length === 0) return html`${title}<section class="card"><p class="quiet">No waves on ${app.filter} in the last minutes.</p></section>`;
  const loudest = rows
    .map((name) => ({ name, energy: mean(app.history.of(name, "energy", 10)), waves: mean(app.history.of(name, "waves", 10)) }))
    .sort((a, b) => b.energy - a.energy || a.name.localeCompare(b.name))
    .slice(0, LOUDEST);
  return html`${title}
    <section class="card flush" aria-label="Waterfall">
      <div class="head padded"><p class="quiet">${plural(names.length, "channel")}${names.length > rows.length ? `, the first ${MOST_ROWS} of them` : ""}, the last ${app.history.seconds === 60 ? "minute" : plural(app.history.seconds / 60, "minute")}. Brightness is energy: rate times amplitude. Click a row to narrow every page to it.</p>
        <p class="legend" aria-hidden="true"><span>quiet</span><canvas id="legend" width="96" height="8"></canvas><span>loud</span></p></div>
      <div id="spectrum" class="spectrum" tabindex="0" role="img"
        aria-label="Waterfall of channels over time. Up and down choose a channel, Enter narrows every page to it. The list below has the loudest."
        @pointermove=${(event) => point(app, event)} @pointerleave=${() => point(app, null)}
        @click=${(event) => choose(app, rowAt(event))} @keydown=${(event) => keys(app, event)}><canvas class="waterfall"></canvas><canvas class="names"></canvas></div>
      <p class="hint padded" id="hint" aria-live="polite">${hint(app)}</p>
    </section>
    <section class="card" aria-labelledby="h-loud"><h2 id="h-loud">Loudest now</h2>
      <div class="scroll"><table><thead><tr><th>channel</th><th class="number">energy/s</th><th class="number">waves/s</th></tr></thead>
      <tbody>${loudest.map((row) => html`<tr><td>${channelLink(app, row.name)}</td>
        <td class="number">${rate(row.energy)}</td><td class="number">${rate(row.waves)}</td></tr>`)}</tbody></table></div></section>`;
}

export function after(app) {
  const place = document.getElementById("spectrum");
  if (!place) {
    painted = "";
    return;
  }
  if (!tones) {
    tones = Object.fromEntries(TONES.map((name) => [name, color(name)]));
    colors = ramp();
    painted = "";
    written = "";
  }
  legend(document.getElementById("legend"));
  const [picture, names] = place.children;
  const { history } = app;
  const height = Math.max(place.clientWidth < 520 ? 220 : 300, Math.min(560, rows.length * 20));
  place.style.height = `${height}px`;
  const width = place.clientWidth;
  const now = [history.second, app.filter, rows.length, width, height, history.seconds].join();
  if (painted !== now) {
    paint(history, picture);
    move(history, picture, width);
  }
  const said = [rows.length, rows[0], rows.at(-1), app.filter, selected, pointed?.name, width, height, dark.matches].join();
  if (written !== said || painted === "") texts(names, width, height);
  painted = now;
  written = said;
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
  const { top, height } = event.currentTarget.getBoundingClientRect();
  return rows[Math.floor(((event.clientY - top) / height) * rows.length)];
}

function point(app, event) {
  const name = event && rowAt(event);
  const { left, width } = event?.currentTarget.getBoundingClientRect() ?? {};
  const { seconds } = app.history;
  const next = name ? { name, ago: Math.min(seconds - 1, Math.max(0, Math.floor((1 - (event.clientX - left) / width) * seconds))) } : null;
  if (next?.name === pointed?.name && next?.ago === pointed?.ago) return;
  pointed = next;
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
  const parse = (name) => tones[name].match(/\w\w/g).map((two) => parseInt(two, 16));
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
  if (canvas.dataset.drawn === tones["--ramp-0"]) return;
  canvas.dataset.drawn = tones["--ramp-0"];
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at += 1) pixels[at] = colors[Math.round(((at % canvas.width) / (canvas.width - 1)) * 255)];
  context.putImageData(image, 0, 0);
}

/** A column for each second and one that leaves, a row for each channel. */
function paint(history, canvas) {
  const columns = history.seconds + 1;
  if (canvas.width !== columns) canvas.width = columns;
  if (canvas.height !== rows.length) canvas.height = rows.length;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows.length);
  const pixels = new Uint32Array(image.data.buffer);
  rows.forEach((name, row) => {
    const energy = history.channels.get(name)?.energy;
    for (let column = 0; column < columns; column += 1) {
      const ago = columns - 1 - column;
      // Of five minutes the oldest second was just forgotten.
      const at = ago >= SECONDS ? 0 : energy?.[(history.second - ago + 2 * SECONDS) % SECONDS] ?? 0;
      pixels[row * columns + column] = colors[level(at)];
    }
  });
  context.putImageData(image, 0, 0);
}

/** The picture moves evenly by one second until the next one comes, without a script; not at all if motion is not wanted. */
function move(history, canvas, width) {
  const column = width / history.seconds;
  canvas.style.width = `${width + column}px`;
  canvas.getAnimations().forEach((animation) => animation.cancel());
  const end = `translateX(${-column}px)`;
  canvas.style.transform = end;
  if (!isCalm()) canvas.animate([{ transform: "none" }, { transform: end }], 1000);
}

function texts(canvas, width, height) {
  const scale = devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const each = height / rows.length;
  const every = Math.max(1, Math.ceil(ROW_FOR_TEXT / each));
  rows.forEach((name, row) => {
    const isMarked = name === selected || name === pointed?.name;
    if (row % every !== 0 && !isMarked) return;
    const y = (row + 0.5) * each;
    context.fillStyle = tones[isMarked ? "--accent-solid" : "--label"];
    context.beginPath();
    context.roundRect(4, y - 8, context.measureText(name).width + 10, 16, 4);
    context.fill();
    context.fillStyle = tones[isMarked ? "--on-accent" : "--ink"];
    context.fillText(name, 9, y + 0.5);
  });
}
