// Payloads as they are: numbers of more digits than a double keeps, and payloads that are nested too deeply to be written.

/** Numbers keep their digits where the browser can tell them; elsewhere they are rounded as JSON.parse rounds them. */
const keep = typeof JSON.rawJSON === "function"
  ? (key, value, context) => {
      const source = context?.source;
      return typeof value === "number" && source?.length > 15 && String(value) !== source ? JSON.rawJSON(source) : value;
    }
  : undefined;

/** Reads JSON that has payloads in it. Throws a SyntaxError. */
export function exact(text) {
  try {
    return JSON.parse(text, keep);
  } catch (error) {
    // Nested too deeply to look at each number.
    if (error instanceof RangeError) return JSON.parse(text);
    throw error;
  }
}

/** Payloads that are nested deeper are not indented: at 4,000 levels that would be 32 MB, which hang a page for half a minute. */
const MOST_INDENTED = 100;

/** Whether brackets outside of strings are nested deeper than that. */
function isDeep(text) {
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{\]}]/g)) {
    if (token === "[" || token === "{") depth += 1;
    else if (token === "]" || token === "}") depth -= 1;
    if (depth > MOST_INDENTED) return true;
  }
  return false;
}

/** Writes JSON for people. */
export function written(value, space) {
  try {
    const plain = JSON.stringify(value);
    return space === undefined || plain === undefined || isDeep(plain) ? plain : JSON.stringify(value, null, space);
  } catch {
    return "nested too deeply to be shown";
  }
}
