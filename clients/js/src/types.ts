import "./disposable.js";
import type { Member } from "./records.js";

/** A value of JSON. A field holds no `null` at the top: a key without a value is absent. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** The keys of a field and their values. */
export type Schema = object;

/** Ends a subscription. It may be called any number of times. */
export type Off = () => void;

export type { Member } from "./records.js";

/**
 * - `connecting`: not connected yet, or again.
 * - `online`: connected, and the first snapshot is complete.
 * - `offline`: the last attempt failed; the next one is timed.
 * - `denied`: the gateway refused the token, or gives no right to this field.
 * - `closed`: by `close` or `forget`.
 */
export type Status = "connecting" | "online" | "offline" | "denied" | "closed";

/**
 * How far a write has got.
 * - `local`: seen by this client only.
 * - `kept`: in the storage of this browser, so it outlives the page.
 * - `sent`: on its way.
 * - `acked`: the gateway has it in memory.
 * - `durable`: it is on the disk of the gateway.
 * - `refused`: nobody sees it, and the view shows what stood before.
 * - `replaced`: a later write of the same register by this client took its place before it was sent.
 */
export type WriteState = "local" | "kept" | "sent" | "acked" | "durable" | "refused" | "replaced";

/**
 * A write. Awaiting it waits until it is `durable`, or `acked` (`"memory"`) at a gateway without a disk. Each promise
 * rejects with a {@link Refused} if the write is refused. A write that nobody awaits causes no unhandled rejection.
 */
export interface Write extends PromiseLike<"durable" | "memory"> {
  readonly state: WriteState;
  readonly kept: Promise<void>;
  readonly acked: Promise<void>;
  readonly durable: Promise<void>;
}

/** Where a change comes from: this client, another tab of this browser, elsewhere, or a write that was undone. */
export type By = "me" | "tab" | "remote" | "rollback";

/** A register has another value now. `undefined` is an absent one. */
export interface Change<V = unknown> {
  readonly key: string;
  readonly value: V | undefined;
  readonly old: V | undefined;
  /** The version of the confirmed value; `undefined` while the value is an own write that is not acknowledged. */
  readonly version: string | undefined;
  readonly by: By;
}

/** A write was refused for good. `code` is one of docs/protocol/field-websocket.md. */
export interface Refusal {
  readonly write: Write;
  /** The name of the register, counter or set. */
  readonly key: string;
  /** The value that was to be set; `undefined` for other writes. */
  readonly value: unknown;
  readonly code: string;
  readonly message: string;
}

/** An own write was acknowledged, and lost against a concurrent one. */
export interface Superseded {
  readonly key: string;
  readonly lost: unknown;
  readonly value: unknown;
}

/** A problem that no call can report. The client goes on. */
export interface FieldProblem {
  /**
   * `storage`: there is no room for what was read, which does not outlive the page any more; or, if `persisted` is false now,
   * writes do not either. `token`: the token function failed. `protocol`: a message made no sense.
   */
  readonly code: "storage" | "token" | "denied" | "protocol";
  readonly message: string;
  readonly cause?: unknown;
}

export interface Counter {
  /** A `bigint` beyond the whole numbers that a `number` holds exactly. */
  readonly value: number | bigint;
  /** Adds a whole number, which may be negative. */
  add(amount: number): Write;
  on(callback: (value: number | bigint) => void): Off;
}

export interface Members {
  has(member: Member): boolean;
  values(): readonly Member[];
  add(member: Member): Write;
  delete(member: Member): Write;
  on(callback: (values: readonly Member[]) => void): Off;
}

export interface Presence {
  /**
   * Announces this tab with a value, or takes that back with `null`. `room` is a pattern of names; default: all that may be read.
   * A tab may be in several rooms, with a value in each.
   */
  set(value: Json, room?: string): void;
  /**
   * The others and their values, by id: those that concern names of the room, such as those that were announced in it, or
   * for everything. The same object until one of them comes, changes or leaves. Empty before the first answer of the gateway.
   */
  others(room?: string): ReadonlyMap<string, Json>;
  /** Calls back when one of them comes, changes or leaves. */
  on(callback: (others: ReadonlyMap<string, Json>) => void, room?: string): Off;
}

/** Where a client keeps its outbox and its cache, if it is neither IndexedDB nor memory. See `storage.ts`. */
export type { Storage as Store } from "./storage.js";

export interface Options {
  /** The token, or a function that gets one. The function is asked again after the gateway refused the last token. */
  token?: string | (() => string | Promise<string>) | undefined;
  /** Names that are read: a name, or the beginning of names and `*`. Default: `["*"]`. */
  patterns?: readonly string[] | undefined;
  /** Default: `"indexeddb"` where it is there, else `"memory"`. */
  persist?: "indexeddb" | "memory" | import("./storage.js").Storage | undefined;
  /** The name of the database. Default: from the URL and `user`. */
  name?: string | undefined;
  /** Who uses the page. The writes of one user are never seen or sent by another one. */
  user?: string | undefined;
  /** Whether writes wait for the disk of the gateway. Default: `true`. */
  durable?: boolean | undefined;
  /**
   * Whether the tabs of a browser share one connection. Default: `true` where Web Locks and IndexedDB are there: on pages of
   * `https:` and `localhost`. Otherwise only writes outlive the page, and what was read does not.
   */
  tabs?: boolean | undefined;
  /** For Node before 22: a class like the WebSocket of browsers. */
  WebSocket?: unknown;
  onError?: ((problem: FieldProblem) => void) | undefined;
}

export interface Field<S extends Schema = Record<string, any>> {
  /** The name of the database and of what tabs share. */
  readonly name: string;
  /** The id of this tab as a participant, outside of rooms; `undefined` while there is no connection. */
  readonly id: string | undefined;
  readonly status: Status;
  /** Whether writes outlive the page. */
  readonly persisted: boolean;
  /** The number of writes that are not confirmed yet. */
  readonly pending: number;

  /** At once, from memory. The same object until the value changes. */
  get<K extends keyof S & string>(key: K): S[K] | undefined;
  has(key: string): boolean;
  keys(pattern?: string): string[];
  entries(pattern?: string): [string, unknown][];
  /** An object without a prototype: `__proto__` is a key like any other. */
  snapshot(pattern?: string): Record<string, unknown>;

  /** @throws TypeError if the value is not JSON, with the path to what is not. */
  set<K extends keyof S & string>(key: K, value: S[K]): Write;
  delete(key: keyof S & string): Write;
  /** Sets what the function returns, or deletes the key if it returns `undefined`. */
  update<K extends keyof S & string>(key: K, next: (old: S[K] | undefined) => S[K] | undefined): Write;
  /** Makes several writes as one: watchers are called after the last. The write is done when all are. */
  batch(writes: () => void): Write;

  counter(name: string): Counter;
  members(name: string): Members;
  readonly presence: Presence;

  /** Calls back for each key that changes; with `now` also for the present values, at once. */
  on(pattern: string, callback: (change: Change) => void, options?: { signal?: AbortSignal; now?: boolean }): Off;
  onRefused(callback: (refusal: Refusal) => void): Off;
  onSuperseded(callback: (superseded: Superseded) => void): Off;
  onStatus(callback: (status: Status) => void): Off;
  onPending(callback: (pending: number) => void): Off;

  /** Data are there: from the storage, or from the gateway. @throws TimeoutError after `timeout` ms. */
  ready(options?: { timeout?: number }): Promise<void>;
  /** No write is pending. @throws TimeoutError after `ms`. */
  synced(ms?: number): Promise<void>;
  /** Connects now, also after `denied`. */
  retry(): void;
  /** The confirmed entries as text, for `initial` of the React provider. */
  dehydrate(pattern?: string): string;
  /** Ends the client; its writes stay in the storage. */
  close(): Promise<void>;
  /** Ends the client, and deletes its storage with all that is not sent. */
  forget(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
