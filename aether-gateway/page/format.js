// Numbers, times and texts for people.

import { written } from "./json.js";

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** A number with its thousands apart. */
export function count(number) {
  return plain.format(number ?? 0).replaceAll(",", "\u202f");
}

/** A number of three digits or so: from a thousand on with a unit, so that rates beside each other look alike. */
export function short(number) {
  const size = Math.abs(number ?? 0);
  const unit = UNITS.find(([least]) => size >= least * 0.9995);
  if (!unit) return count(number);
  const scaled = number / unit[0];
  return `${scaled.toFixed(Math.abs(scaled) < 99.95 ? 1 : 0)}${unit[1]}`;
}

/** What counts as losing now, in waves a second. */
export const LOSING = 0.05;

/** A rate a second. */
export function rate(number) {
  const size = number ?? 0;
  if (size === 0) return "0";
  if (size < 0.01) return "<0.01";
  if (size < 1) return size.toFixed(2);
  if (size < 10) return size.toFixed(1);
  return short(size);
}

export function bytes(number) {
  let size = number ?? 0;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024 || unit === "GiB") return `${unit === "B" ? size : size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return "";
}

/** A time span in its largest units. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds ?? 0));
  if (seconds < 1) return `${Math.round(Math.max(0, seconds) * 1000)} ms`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole / 3600) % 24)} h`;
}

export function millis(ms) {
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 999.5) return `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
  // Rounded and not cut: a beat of 2.999 s is one of 3 s.
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return span(ms / 1000);
}

/** The time of day with milliseconds. */
export function clock(unixMs) {
  const at = new Date(unixMs);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** What a reason of the ledger means, in a sentence's half. */
const REASONS = {
  full: ["queue full", "more arrived than was handled; the weakest were dropped"],
  below_floor: ["below the floor", "weaker than the receiver takes now"],
  sojourn: ["waited too long", "older than the longest wait that the receiver allows"],
  expired: ["decayed", "their amplitude had faded before their turn came"],
  closed: ["receiver closed", "the receiver ended while they were queued"],
  unsendable: ["not sendable", "the network did not take them"],
  lost_upstream: ["lost on the network", "they were sent and never arrived"],
};

export function reason(name) {
  return REASONS[name]?.[0] ?? name.replaceAll("_", " ");
}

export function meaning(name) {
  return REASONS[name]?.[1] ?? "";
}

/** The sum of all losses of a ledger. */
export function lost(ledger) {
  return Object.values(ledger.shed).reduce((sum, waves) => sum + waves, 0) + ledger.lost_upstream;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A word for a POSIX shell. */
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Whether a wave can be emitted again as it was: the whole payload is there, and it is JSON or empty. */
export function isWhole(wave) {
  return !wave.cut && (wave.json !== undefined || wave.bytes === 0);
}

/**
 * The command that emits a wave again as it was. Options come before `--`, so that no name from the network is taken for one;
 * those with a value from the network are one word.
 */
export function asCommand(wave) {
  const words = ["aether", "emit"];
  if (wave.kind !== "event") words.push(`--kind=${wave.kind}`);
  const usual = ["event", "broadcast"].includes(wave.kind) ? 8192 : undefined;
  if (wave.half_life_ms !== usual) words.push(`--half-life=${wave.half_life_ms === undefined ? "never" : `${wave.half_life_ms}ms`}`);
  if (wave.amplitude !== 0.5) words.push(`--amplitude=${wave.amplitude}`);
  if (wave.phase) words.push(`--phase=${wave.phase}`);
  if (wave.key !== undefined) words.push(quoted(`--key=${wave.key}`));
  if (wave.cause !== undefined) words.push(quoted(`--cause=${wave.cause}`));
  for (const [name, value] of wave.metadata ?? []) words.push(quoted(`--metadata=${name}=${value}`));
  words.push("--", quoted(wave.channel));
  if (wave.json !== undefined) words.push(quoted(written(wave.json)));
  return words.join(" ");
}

/** Why a gateway is not ready, in a word for the corner and in a sentence. Null if it is. */
const UNREADY = {
  not_connected: ["bus away", "The bus is away.", "The gateway has no connection to its server, so nothing can be seen. It connects again by itself."],
  not_storing: ["cannot store", "Durable waves cannot be stored.", "The gateway sees everything, but the log of durable channels takes no more waves: the disk may be full."],
  observer_ended: ["gateway ends", "The gateway ends.", "The bus was closed or the gateway is stopping, so nothing new is seen."],
};

export function unready(view) {
  if (view.readiness === "ready") return null;
  const [word, title, text] = UNREADY[view.readiness] ?? [view.readiness, "The gateway is not ready.", view.readiness.replaceAll("_", " ")];
  return { word, title, text };
}
