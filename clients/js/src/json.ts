/** JSON: what of JavaScript is JSON, how many bytes it has, and when two values are equal. */

/** The bytes of a text in UTF-8. Halves of surrogate pairs count 3. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    // Two units of UTF-16 are four bytes.
    if (code > 0x7f) bytes += code > 0x7ff ? 2 : 1;
  }
  return bytes;
}

/** Whether a text has half of a surrogate pair. */
export function hasLoneSurrogate(text: string): boolean {
  return /[\ud800-\udfff]/u.test(text);
}

/** The gateway takes 127 levels. */
const MAX_DEPTH = 127;

/**
 * The compact JSON of a value.
 * @throws TypeError if the value is not JSON, with the path to what is not.
 */
export function encode(value: unknown): string {
  check(value, "value", 0, new Set());
  return JSON.stringify(value);
}

function check(value: unknown, path: string, depth: number, above: Set<object>): void {
  const wrong = (what: string): TypeError => new TypeError(`${path} is not JSON: ${what}`);
  switch (typeof value) {
    case "boolean":
      return;
    case "string":
      if (hasLoneSurrogate(value)) throw wrong("half of a surrogate pair");
      return;
    case "number":
      if (!Number.isFinite(value)) throw wrong(String(value));
      return;
    case "object":
      break;
    default:
      throw wrong(typeof value);
  }
  if (value === null) return;
  if (depth >= MAX_DEPTH) throw wrong(`more than ${MAX_DEPTH} levels`);
  if (above.has(value)) throw wrong("a cycle");
  above.add(value);
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) check(value[at], `${path}[${at}]`, depth + 1, above);
  } else {
    const prototype: unknown = Object.getPrototypeOf(value);
    // An object of another realm has another Object.prototype, whose prototype is null as well.
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw wrong(`a ${value.constructor?.name}`);
    if (typeof (value as { toJSON?: unknown }).toJSON === "function") throw wrong("an object with toJSON");
    for (const [name, inner] of Object.entries(value)) {
      const place = `${path}[${JSON.stringify(name)}]`;
      if (hasLoneSurrogate(name)) throw wrong(`half of a surrogate pair in ${JSON.stringify(name)}`);
      check(inner, place, depth + 1, above);
    }
  }
  above.delete(value);
}

/** Whether two values of JSON are equal, whatever the order of names. */
export function equal(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || !one || !other || Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  // A list has its indices as names.
  return names.length === Object.keys(other).length && names.every((name) => Object.prototype.hasOwnProperty.call(other, name) && equal(one[name as never], other[name as never]));
}

/** Freezes a value of JSON with all in it. */
export function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) freeze(inner);
  }
  return value;
}
