// Parts that several pages use: sparklines, charts, bars, empty states.

import { html, nothing, render, svg } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import uPlot from "./vendor/uplot.js";
import { clock, rate } from "./format.js";

export { html, nothing, render, repeat, svg };

/**
 * A line of numbers, the newest at the right. Drawn as a path, so it needs no script to resize. What comes by the second or the
 * bucket is drawn in steps if `steps`: a slope would say what nobody measured.
 */
export function spark(values, { width = 96, height = 22, tone = "flow", label = "", steps = false } = {}) {
  const most = Math.max(...values, 1e-9);
  const step = width / Math.max(steps ? values.length : values.length - 1, 1);
  const y = (value) => (height - 1.5 - (value / most) * (height - 3)).toFixed(1);
  const x = (at) => (at * step).toFixed(1);
  const line = values.map((value, at) => (steps ? `${x(at)},${y(value)} ${x(at + 1)},${y(value)}` : `${x(at)},${y(value)}`)).join(" ");
  return html`<svg class="spark ${tone}" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img"
    aria-label=${label || "the last minutes"}>
    ${values.length > 1
      ? svg`<polygon points="0,${height} ${line} ${width},${height}"/><polyline points=${line}/>`
      : nothing}
  </svg>`;
}

/** A bar that fills a share of its cell. */
export function bar(share, tone = "flow", label = "") {
  const width = Math.max(0, Math.min(1, share)) * 100;
  return html`<svg class="meter ${tone}" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=${label}>
    <rect class="track" width="100" height="8"/><rect class="fill" width=${width} height="8"/></svg>`;
}

/** What to do when there is nothing to show. */
export function empty(title, text, command) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${text}</p>
    ${command ? html`<pre><code>${command}</code></pre>` : nothing}</div>`;
}

/** A word in a rounded frame. */
export function badge(text, tone = "") {
  return html`<span class="badge ${tone}">${text}</span>`;
}

/** Beside a heading of what is shown for all channels although one was chosen. */
export function notByChannel(app, why) {
  return app.filter ? html` <span class="badge" title=${why}>all channels</span>` : nothing;
}

/** The name of a channel, which narrows every page to it or shows all again. */
export function channelLink(app, name) {
  const isOn = app.filter === name;
  return html`<button class="link" title=${isOn ? "Show all channels again" : "Narrow every page to this channel"} @click=${() => app.narrow(isOn ? "" : name)}>${name}</button>`;
}

export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The time of day, with seconds if the marks of an axis are less than a minute apart. */
function timeOfDay(seconds, step) {
  return clock(seconds * 1000).slice(0, step < 60 ? 8 : 5);
}

/** A chart over time, which keeps its element while the page is drawn anew. */
export class TimeChart {
  #plot = null;
  #series;
  #element = null;
  #size = null;
  #theme = "";
  #range = 600;

  /** `series` are `[label, colour variable]`. */
  constructor(series, { height = 150 } = {}) {
    this.#series = series;
    this.height = height;
    this.#size = new ResizeObserver(([entry]) => {
      this.#plot?.setSize({ width: Math.floor(entry.contentRect.width), height: this.height });
    });
  }

  /** Shows seconds since 1970 and one list of numbers for each series; the axis spans so many seconds, known or not. */
  draw(element, data, range) {
    this.#range = range;
    const theme = color("--ink") + this.#series.map(([label]) => label).join();
    if (this.#element !== element || this.#theme !== theme) {
      this.#plot?.destroy();
      this.#size.disconnect();
      this.#element = element;
      this.#theme = theme;
      this.#plot = new uPlot(this.#options(element), data, element);
      this.#size.observe(element);
    } else {
      this.#plot.setData(data);
    }
  }

  #options(element) {
    const [ink, grid] = [color("--quiet"), color("--line")];
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font: "11px system-ui" };
    const lines = this.#series.map(([label, variable]) => ({
      label,
      stroke: color(variable),
      fill: this.#series.length === 1 ? `${color(variable)}22` : undefined,
      width: 1.5,
      points: { show: false },
      value: (_, value) => (value == null ? "–" : `${rate(value)}/s`),
    }));
    return {
      width: Math.max(200, Math.floor(element.clientWidth)),
      height: this.height,
      cursor: { y: false, points: { size: 6 } },
      legend: { show: this.#series.length > 1, live: true },
      scales: { x: { time: true, range: (_, __, newest) => [(newest ?? 0) - this.#range, newest ?? 0] }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
      axes: [
        { ...axis, space: 110, size: 32, values: (_, splits, __, ___, step) => splits.map((at) => timeOfDay(at, step)) },
        { ...axis, size: 46, space: 24, values: (_, values) => values.map((value) => rate(value)) },
      ],
      series: [{ value: (_, at) => (at == null ? "" : timeOfDay(at, 1)) }, ...lines],
    };
  }
}
