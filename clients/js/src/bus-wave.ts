/** Waves as they travel: drafts for the gateway, and records that it sends. */
import { fromBase64, toBase64 } from "./base64.js";
import type { ListenOptions, Wave, WaveOptions } from "./bus-types.js";
import { encode, hasLoneSurrogate } from "./json.js";

const KINDS: readonly unknown[] = ["event", "command", "query", "response", "broadcast"];

/** What of a record has which type, and its name in the protocol if that is another one. */
const REQUIRED = "id,channel,kind,source,instance,root,contentType=content_type:string;amplitude,emittedAt=emitted_unix_ms,age=age_ms,hops,bytes:number";
const OPTIONAL = "halfLife=half_life_ms,phase:number;key,cause,trace:string";

/**
 * The `wave` of a request, as JSON. Everything is checked whose wrong type would make the whole request unreadable: the
 * gateway could not say which one it was.
 */
export function draftOf(channel: string, payload: unknown, options: WaveOptions): string {
  const { phase, cause, traceparent } = options;
  // The gateway takes `"json":null` for no payload at all, so it gets the text.
  const contentType = options.contentType ?? (payload === null ? "application/json" : undefined);
  const metadata: Record<string, unknown> = { ...options.metadata };
  if (traceparent !== undefined) metadata.traceparent = traceparent;
  for (const name of Object.keys(metadata)) {
    text(name, "metadata");
    text(metadata[name] ?? 0, `metadata.${name}`);
  }
  const rest = JSON.stringify({
    channel: text(channel ?? 0, "channel"),
    kind: kind(options.kind),
    amplitude: number(options.amplitude, "amplitude"),
    half_life_ms: whole(options.halfLife, "halfLife"),
    phase: number(phase === "assert" ? 0 : phase === "retract" ? Math.PI : phase, "phase"),
    key: text(options.key, "key"),
    cause: text(typeof cause === "object" ? cause.id : cause, "cause"),
    content_type: text(contentType, "contentType"),
    metadata,
  });
  return `${rest.slice(0, -1)}${payloadOf(payload, contentType)}}`;
}

/** The `filter` of a subscription. */
export function filterOf(pattern: string, options: ListenOptions): object {
  return {
    pattern: text(pattern ?? 0, "pattern"),
    kinds: options.kinds?.map(kind),
    source: text(options.source, "source"),
    min_amplitude: number(options.minAmplitude, "minAmplitude"),
    per_second: whole(options.perSecond, "perSecond"),
  };
}

/** A record of the gateway, or `undefined` if it makes no sense. */
export function waveOf(record: unknown): Wave | undefined {
  const from = (record ?? {}) as Readonly<Record<string, unknown>>;
  const wave: Record<string, unknown> = { phase: 0, payload: from.json, cut: from.cut === true, metadata: metadataOf(from.metadata) };
  if (!copy(REQUIRED, from, wave)) return undefined;
  copy(OPTIONAL, from, wave);
  if (typeof from.text === "string") wave.payload = from.text;
  if (typeof from.base64 === "string") {
    try {
      wave.payload = fromBase64(from.base64);
    } catch {
      return undefined;
    }
  }
  // The lists above have all names of the type.
  return wave as unknown as Wave;
}

/** Copies what has its type. Returns whether all has. */
function copy(names: string, from: Readonly<Record<string, unknown>>, to: Record<string, unknown>): boolean {
  let all = true;
  for (const group of names.split(";")) {
    const [list = "", type] = group.split(":");
    for (const pair of list.split(",")) {
      const [name = "", wire = name] = pair.split("=");
      if (typeof from[wire] === type) to[name] = from[wire];
      else all = false;
    }
  }
  return all;
}

function metadataOf(pairs: unknown): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  if (Array.isArray(pairs)) for (const [name, value] of pairs.filter(Array.isArray)) metadata[String(name)] = String(value);
  return metadata;
}

function payloadOf(payload: unknown, contentType: string | undefined): string {
  if (payload === undefined) return "";
  if (payload instanceof Uint8Array) return `,"base64":"${toBase64(payload)}"`;
  if (payload === null) return ',"text":"null"';
  return `,"${typeof payload === "string" && contentType !== undefined ? "text" : "json"}":${encode(payload)}`;
}

/** @throws TypeError if it is neither absent nor right. */
function checked<T>(value: T, name: string, isRight: boolean, right: string): T {
  if (value !== undefined && !isRight) throw new TypeError(`${name} must be ${right}`);
  return value;
}

function kind<T>(value: T): T {
  return checked(value, "kind", KINDS.includes(value), KINDS.join(", "));
}

function text<T>(value: T, name: string): T {
  return checked(value, name, typeof value === "string" && !hasLoneSurrogate(value), "a text");
}

function number<T>(value: T, name: string): T {
  return checked(value, name, Number.isFinite(value), "a number");
}

export function whole<T>(value: T, name: string): T {
  return checked(value, name, Number.isSafeInteger(value) && Number(value) >= 0, "a whole number, at least 0");
}
