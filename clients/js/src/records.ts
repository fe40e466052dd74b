/** Entries of the gateway and own writes, as they are sent, stored and handed to other tabs. */
import { fromBase64, toBase64 } from "./base64.js";

/** The member of a set: text, or bytes that are not UTF-8. */
export type Member = string | Uint8Array;

/** A member as JSON: text, or bytes that are not UTF-8. */
export type WireMember = string | { readonly base64: string };

/** The confirmed state of a register, a counter or a member of a set. Registers, counters and sets have names of their own. */
export type Entry =
  | { readonly key: string; readonly value?: unknown; readonly version?: string }
  | { readonly counter: string; readonly sum: number | bigint; readonly own?: Sums }
  | { readonly set: string; readonly member: WireMember; readonly present: boolean; readonly version?: string };

/** What the client has added to a counter and taken from it. */
export interface Sums {
  readonly up: bigint;
  readonly down: bigint;
}

/** Up to where the confirmed state is complete. */
export interface Cursor {
  readonly epoch: string;
  readonly revision: number;
}

export type WriteKind = "set" | "delete" | "count" | "insert" | "discard";

/** An own write that has no number yet. */
export interface Draft {
  /** Identifies it among all drafts of all tabs. */
  readonly id: string;
  readonly kind: WriteKind;
  readonly name: string;
  readonly member?: WireMember;
  /** The compact JSON of the value of a `set`. */
  readonly json?: string;
  /** What a `count` adds. */
  readonly amount?: bigint;
  /** The version that the writer had seen; null if none. */
  readonly replaces: string | null;
  /** Milliseconds since 1970 by the clock of the gateway. */
  readonly at: number;
}

/** An own write with its number. */
export interface Kept extends Draft {
  readonly op: number;
  /** The sums of all that the client has added to the counter and taken from it, this write included. */
  readonly up?: bigint;
  readonly down?: bigint;
}

/** Names what a write or an entry is about; the first character tells the kind. */
export const registerSlot = (key: string): string => `r${key}`;
export const counterSlot = (name: string): string => `c${name}`;
export const memberSlot = (set: string, member: WireMember): string => `m${JSON.stringify([set, member])}`;

export function slotOf(write: Draft): string {
  if (write.kind === "count") return counterSlot(write.name);
  return write.member === undefined ? registerSlot(write.name) : memberSlot(write.name, write.member);
}

export function slotOfEntry(entry: Entry): string {
  if ("key" in entry) return registerSlot(entry.key);
  return "counter" in entry ? counterSlot(entry.counter) : memberSlot(entry.set, entry.member);
}

export function nameOf(entry: Entry): string {
  return "key" in entry ? entry.key : "counter" in entry ? entry.counter : entry.set;
}

/** Reads entries of a message. Entries of owners and of kinds that are not known yet are left out. @throws TypeError */
export function readEntries(list: unknown, sums?: readonly unknown[]): Entry[] {
  const wrong = (): TypeError => new TypeError("an entry makes no sense");
  const integer = (sum: unknown): bigint => {
    if (typeof sum !== "string" && !Number.isInteger(sum)) throw wrong();
    return BigInt(sum as string | number);
  };
  if (!Array.isArray(list)) throw wrong();
  const entries: Entry[] = [];
  for (let at = 0; at < list.length; at++) {
    const item = list[at] as Record<string, unknown> | null;
    if (typeof item !== "object" || item === null) throw wrong();
    const { key, counter, set, owner, member, present, version } = item;
    if (owner !== undefined) continue;
    if (version !== undefined && typeof version !== "string") throw wrong();
    if (typeof key === "string") {
      entries.push(item as Entry);
    } else if (typeof counter === "string") {
      const { sum, own } = (sums?.[at] ?? item) as Record<string, unknown>;
      const { up, down } = (own ?? {}) as Record<string, unknown>;
      entries.push({ counter, sum: exact(integer(sum)), ...(own !== undefined && { own: { up: integer(up), down: integer(down) } }) });
    } else if (typeof set === "string") {
      if (!isMember(member) || typeof present !== "boolean") throw wrong();
      entries.push(item as Entry);
    }
  }
  return entries;
}

/** The same list with the sums as texts, if there are any that a `number` does not hold. */
export function exactSums(message: Record<string, unknown>, text: string): readonly unknown[] | undefined {
  const { entries } = message;
  const isLarge = (entry: unknown): boolean => {
    const { counter, sum, own } = (entry ?? {}) as { counter?: unknown; sum?: unknown; own?: object };
    return counter !== undefined && [sum, ...Object.values(own ?? {})].some((sum) => !Number.isSafeInteger(sum));
  };
  if (!Array.isArray(entries) || !entries.some(isLarge)) return undefined;
  // Within a text of JSON the quotation marks would be escaped, so only numbers are met.
  return (JSON.parse(text.replace(/"(sum|up|down)":(-?\d+)/g, '"$1":"$2"')) as { entries: unknown[] }).entries;
}

function isMember(member: unknown): member is WireMember {
  return typeof member === "string" || (typeof member === "object" && member !== null && typeof (member as { base64?: unknown }).base64 === "string");
}

/** What sums come to. */
export const net = ({ up, down }: Sums): bigint => up - down;

/** Neither sum ever falls, so the greater ones have everything. */
export function join(one: Sums, other: Sums): Sums {
  return { up: one.up > other.up ? one.up : other.up, down: one.down > other.down ? one.down : other.down };
}

/** A `number` where that is exact. */
export function exact(sum: bigint): number | bigint {
  const number = Number(sum);
  return Number.isSafeInteger(number) ? number : sum;
}

export function wireMember(member: Member): WireMember {
  if (typeof member === "string") return member;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(member);
  } catch {
    return { base64: toBase64(member) };
  }
}

export function readMember(member: WireMember): Member {
  return typeof member === "string" ? member : fromBase64(member.base64);
}

/** The request of a write. */
export function request(write: Kept, durable: boolean): string {
  const { kind, op, at, name, member, json, up = 0n, down = 0n, replaces } = write;
  let text = `{"type":"${kind}","op":${op},"at":${at},"key":${JSON.stringify(name)}`;
  if (kind === "count") text += `,"up":${up},"down":${down}`;
  if (member !== undefined) text += `,"member":${JSON.stringify(member)}`;
  if (json !== undefined) text += `,"value":${json}`;
  if (kind !== "count" && kind !== "insert") text += `,"replaces":${JSON.stringify(replaces)}`;
  return `${text}${durable ? ',"durable":true' : ""}}`;
}

/** Whether a name is one, or begins like the pattern, which ends with `*` then. */
export function matches(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

/** Whether there are names that match both patterns. */
export function overlap(one: string, other: string): boolean {
  return matches(one, other.replace(/\*$/, "")) || matches(other, one.replace(/\*$/, ""));
}

/** Whether a name matches one of the patterns. */
export function isBelow(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => matches(pattern, name));
}

/**
 * Whether a version is later than another one. Versions are `MICROSECONDS.NUMBER@WRITER`; of texts that are something
 * else, the one that came last counts as later.
 */
export function isLater(one: string, other: string | undefined): boolean {
  if (other === undefined) return true;
  if (one === other) return false;
  const [a, b] = [parts(one), parts(other)];
  if (!a || !b) return true;
  return a[0] !== b[0] ? a[0] > b[0] : a[1] !== b[1] ? a[1] > b[1] : a[2] > b[2];
}

function parts(version: string): [number, number, string] | undefined {
  const [, micros, logical, writer] = /^(\d+)\.(\d+)@([0-9a-f]+)$/.exec(version) ?? [];
  return writer === undefined ? undefined : [Number(micros), Number(logical), writer];
}
