// Numbers, times and texts for people.

import { written } from "./json.js";

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = [[1e9, "G"], [1e6, "M"], [1e4, "k"]];

/** A number with its thousands apart; from ten thousand on in three digits, if it is to be short. */
export function count(number) {
  return plain.format(number ?? 0).replaceAll(",", "\u202f");
}

export function short(number) {
  const size = Math.abs(number ?? 0);
  for (const [unit, name] of UNITS) {
    if (size >= unit) {
      const scaled = unit === 1e4 ? number / 1e3 : number / unit;
      return `${scaled.toFixed(Math.abs(scaled) < 100 ? 1 : 0)}${name}`;
    }
  }
  return count(number);
}

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
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
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

/** The command that emits a wave again. */
export function asCommand(wave) {
  const words = ["aether", "emit", quoted(wave.channel)];
  if (wave.json !== undefined) words.push(quoted(written(wave.json)));
  if (wave.kind !== "event") words.push("--kind", wave.kind);
  const usual = ["event", "broadcast"].includes(wave.kind) ? 8192 : undefined;
  if (wave.half_life_ms !== usual) words.push("--half-life", wave.half_life_ms === undefined ? "never" : `${wave.half_life_ms}ms`);
  if (wave.amplitude !== 0.5) words.push("--amplitude", String(wave.amplitude));
  if (wave.key !== undefined) words.push("--key", quoted(wave.key));
  return words.join(" ");
}
