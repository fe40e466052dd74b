// Fractional indices: texts in the order of their characters, with room for another one between any two.

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LONGEST = 1_000;
/** An index at an open end is close to its neighbour, so that the next thousand there stay short. */
const STEP = 3;

/** The index if it is one; others may write anything. */
export function indexOf(value) {
  return typeof value === "string" && value.length <= LONGEST && /^[0-9A-Za-z]*[1-9A-Za-z]$/.test(value) ? value : undefined;
}

/**
 * An index after `low` and before `high`; undefined is an open end. It is partly random, so two of two people at one place differ.
 */
export function between(low, high, random = Math.random) {
  const below = low ?? "";
  let bound = high !== undefined && below < high ? high : undefined;
  let index = "";
  for (let at = 0; ; at += 1) {
    const from = digit(below, at);
    const to = bound === undefined ? DIGITS.length : digit(bound, at);
    const room = to - from - 1;
    if (room > 0) return index + DIGITS[from + 1 + step(room, low, high, random)] + DIGITS[some(DIGITS.length, random)] + DIGITS[1 + some(DIGITS.length - 1, random)];
    index += DIGITS[from];
    // What follows is below the bound already.
    if (to > from) bound = undefined;
  }
}

/** Orders items by index, then by id. Those without an index are last. */
export function byIndex(a, b) {
  if (a.order !== b.order) return a.order === undefined || a.order > b.order ? (b.order === undefined ? -1 : 1) : a.order === undefined ? 1 : -1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function step(room, low, high, random) {
  if (low === undefined && high === undefined) return Math.floor(room / 2);
  if (high === undefined) return some(Math.min(STEP, room), random);
  if (low === undefined) return room - 1 - some(Math.min(STEP, room), random);
  return some(room, random);
}

function digit(text, at) {
  return at < text.length ? DIGITS.indexOf(text[at]) : 0;
}

function some(many, random) {
  return Math.floor(random() * many);
}
