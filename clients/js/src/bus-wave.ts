/** Waves as they travel: drafts for the gateway, and records that it sends. */
import { fromBase64, toBase64 } from "./base64.js";
import { encode, hasLoneSurrogate } from "./json.js";
import type { Kind, ListenOptions, Wave, WaveOptions } from "./bus-types.js";

const KINDS: readonly unknown[] = ["event", "command", "query", "response", "broadcast"];

/**
 * The `wave` of a request, as JSON. Everything is checked whose wrong type would make the whole request unreadable: the gateway
 * could not say which one it was.
 */
export function draftOf(channel: string, payload: unknown, options: WaveOptions): string {
  const { amplitude, kind, key, halfLife, phase, cause, traceparent } = options;
  // The gateway takes `"json":null` for no payload at all.
  const contentType = options.contentType ?? (payload === null ? "application/json" : undefined);
  const metadata: Record<string, string> = { ...options.metadata };
  if (traceparent !== undefined) metadata.traceparent = traceparent;
  for (const name of Object.keys(metadata)) {
    text(name, "a name of metadata");
    text(metadata[name], `metadata.${name}`);
  }
  const rest = JSON.stringify({
    ...given("kind", kind, kindOf),
    ...given("amplitude", amplitude, number),
    ...given("half_life_ms", halfLife, whole, "halfLife"),
    ...given("phase", phase === "assert" ? 0 : phase === "retract" ? Math.PI : phase, number),
    ...given("key", key, text),
    ...given("cause", typeof cause === "object" ? cause.id : cause, text),
    ...given("content_type", contentType, text, "contentType"),
    metadata,
    channel: text(channel, "channel"),
  });
  return `${rest.slice(0, -1)}${payloadOf(payload, contentType)}}`;
}

/** The `filter` of a subscription. */
export function filterOf(pattern: string, options: ListenOptions): Record<string, unknown> {
  const { minAmplitude, kinds, source, perSecond } = options;
  return {
    pattern: text(pattern, "pattern"),
    ...given("kinds", kinds, (kinds) => kinds.map(kindOf)),
    ...given("source", source, text),
    ...given("min_amplitude", minAmplitude, number, "minAmplitude"),
    ...given("per_second", perSecond, whole, "perSecond"),
  };
}

/** What is given, checked, under its name in the protocol. */
function given<T>(name: string, value: T | undefined, check: (value: T, option: string) => unknown, option = name): Record<string, unknown> {
  return value === undefined ? {} : { [name]: check(value, option) };
}

/** A record of the gateway, or `undefined` if it makes no sense. */
export function waveOf(record: unknown): Wave | undefined {
  if (typeof record !== "object" || record === null) return undefined;
  const from = record as Readonly<Record<string, unknown>>;
  const string = (name: string): string => (typeof from[name] === "string" ? from[name] : "");
  const numeric = (name: string): number => (typeof from[name] === "number" ? from[name] : 0);
  const optional = <T>(name: string, read: (name: string) => T): T | undefined =>
    from[name] === undefined ? undefined : read(name);
  let payload: unknown = from.json;
  if (typeof from.text === "string") payload = from.text;
  if (typeof from.base64 === "string") {
    try {
      payload = fromBase64(from.base64);
    } catch {
      return undefined;
    }
  }
  if (!string("id") || !string("channel")) return undefined;
  return {
    id: string("id"),
    channel: string("channel"),
    kind: string("kind") as Kind,
    amplitude: numeric("amplitude"),
    source: string("source"),
    instance: string("instance"),
    emittedAt: numeric("emitted_unix_ms"),
    age: numeric("age_ms"),
    hops: numeric("hops"),
    halfLife: optional("half_life_ms", numeric),
    phase: numeric("phase"),
    key: optional("key", string),
    cause: optional("cause", string),
    root: string("root"),
    trace: optional("trace", string),
    contentType: string("content_type"),
    bytes: numeric("bytes"),
    payload,
    cut: from.cut === true,
    metadata: metadataOf(from.metadata),
  };
}

function metadataOf(pairs: unknown): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  for (const pair of Array.isArray(pairs) ? pairs : []) {
    if (Array.isArray(pair) && typeof pair[0] === "string" && typeof pair[1] === "string") metadata[pair[0]] = pair[1];
  }
  return metadata;
}

function payloadOf(payload: unknown, contentType: string | undefined): string {
  if (payload === undefined) return "";
  if (payload instanceof Uint8Array) return `,"base64":"${toBase64(payload)}"`;
  if (payload === null) return `,"text":"null"`;
  const name = typeof payload === "string" && contentType !== undefined ? "text" : "json";
  return `,"${name}":${encode(payload)}`;
}

function kindOf(kind: unknown): unknown {
  if (!KINDS.includes(kind)) throw new TypeError(`${String(kind)} is not a kind: use ${KINDS.join(", ")}`);
  return kind;
}

function text(value: unknown, name: string): string {
  // A lone half of a surrogate pair has no UTF-8.
  if (typeof value !== "string" || hasLoneSurrogate(value)) throw new TypeError(`${name} must be a text`);
  return value;
}

function number(value: unknown, name: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new TypeError(`${name} must be a number`);
  return value;
}

export function whole(value: unknown, name: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new TypeError(`${name} must be a whole number, at least 0`);
  return value as number;
}
