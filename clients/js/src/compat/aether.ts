// The class `Aether` of the sync engine 0.4, over a field.
import { connect } from "../index.js";
import type { Field, Json, Off, Options } from "../types.js";
import { Cache } from "./cache.js";
import { sha1Head } from "./sha1.js";
import { socketClass } from "./socket.js";

export type AetherValue = string | number | boolean | null | { [name: string]: AetherValue } | AetherValue[];

export interface AetherOptions {
  /** Whether it connects again after the connection was lost. Default: `true`. */
  autoReconnect?: boolean | undefined;
  /** The longest pause between two attempts to connect, in milliseconds. Beyond 5000 it is 5000. Default: 5000. */
  maxReconnectDelayMs?: number | undefined;
  /** Whether state and unsent writes outlive the page. Default: `true`. */
  persist?: boolean | undefined;
  /** The key of the cache in `localStorage`. Default: `aether::state::` and the URL. */
  cacheKey?: string | undefined;
  /** The token. It goes into the first message; a server of protocol 0.4 gets it in the URL as well. */
  authToken?: string | undefined;
  /** A class like the WebSocket of browsers, for Node before 22; `null` for a client that never connects. */
  WebSocket?: unknown;
}

export type KeyWatcher<T = AetherValue> = (newValue: T | undefined, oldValue: T | undefined) => void;
export type AnyWatcher = (key: string, newValue: AetherValue | undefined, oldValue: AetherValue | undefined) => void;
export type StatusWatcher = (connected: boolean) => void;
export type SupersedeWatcher = (key: string, attemptedValue: AetherValue | undefined, actualValue: AetherValue | undefined) => void;
export type PresenceWatcher = (id: string, x: number, y: number, color: string) => void;
export type LeaveWatcher = (id: string) => void;
export type Unsubscribe = Off;

/** The longest pause between two attempts of a field. */
const FIELD_DELAY_MS = 5_000;

/**
 * A client of the gateway at a URL: the field that it serves there (`--field-root NAME` for a URL without a path).
 *
 * Differences to 0.4: writes that are not sent outlive the page; `onSupersede` tells the loser of a race, once, and nobody
 * else; a write that the gateway refuses is undone; tabs share one connection; `null` removes a key.
 */
export class Aether {
  readonly url: string;
  readonly #field: Field | undefined;
  readonly #cache: Cache;
  readonly #state = new Map<string, AetherValue>();
  /** Values that are being set. */
  readonly #given = new Map<string, AetherValue>();
  readonly #watchers = new Map<string, Set<KeyWatcher>>();
  readonly #anyWatchers = new Set<AnyWatcher>();
  readonly #statusWatchers = new Set<StatusWatcher>();
  readonly #supersedeWatchers = new Set<SupersedeWatcher>();
  readonly #presenceWatchers = new Set<PresenceWatcher>();
  readonly #leaveWatchers = new Set<LeaveWatcher>();
  readonly #offs: Off[] = [];
  readonly #ready: Promise<void>;
  #others: ReadonlyMap<string, Json> = new Map();
  #connected = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string, options: AetherOptions = {}) {
    this.url = url;
    const { autoReconnect = true, maxReconnectDelayMs = FIELD_DELAY_MS, persist = true, cacheKey } = options;
    this.#cache = new Cache(cacheKey || `aether::state::${url}`, persist, () => this.snapshot());
    const cached = this.#cache.load();
    for (const [key, value] of cached ?? []) this.#state.set(key, value as AetherValue);

    this.#field = open(url, options, () => {
      if (!autoReconnect) void this.#field?.close();
      else if (maxReconnectDelayMs < FIELD_DELAY_MS) this.#retry = setTimeout(() => this.#field?.retry(), maxReconnectDelayMs);
    });
    const field = this.#field;
    const loaded = new Promise<void>((resolve) => {
      // It is rejected when the client is closed; `ready` of 0.4 then waits for ever.
      field?.ready().then(() => resolve(this.#adopt(field)), () => {});
    });
    this.#ready = cached ? Promise.resolve() : loaded;
    if (!field) return;
    this.#offs.push(
      field.on("*", ({ key, value }) => this.#take(key, value)),
      field.onSuperseded(({ key, lost, value }) => call(this.#supersedeWatchers, key, copyOf(lost) as AetherValue | undefined, copyOf(value) as AetherValue | undefined)),
      field.presence.on((others) => this.#meet(others)),
      field.onStatus((status) => {
        const was = this.#connected;
        this.#connected = status === "online";
        // Also where another tab has the connection.
        if (was && !this.#connected && !autoReconnect) void field.close();
        if (was !== this.#connected) call(this.#statusWatchers, this.#connected);
      }),
    );
  }

  /** Whether the gateway is connected and has sent its state. */
  get connected(): boolean {
    return this.#connected;
  }

  /** The id that the gateway gave to this connection; `null` while there is none. */
  get clientId(): string | null {
    return (this.#connected && this.#field?.id) || null;
  }

  /** The colour that others show this client in. */
  get clientColor(): string | null {
    const id = this.clientId;
    return id === null ? null : colorOf(id);
  }

  /** Sets a value, at once. One that is not JSON is dropped, and `null` removes the key. */
  set<T = AetherValue>(key: string, value: T): void {
    const name = String(key);
    const json = copyOf(value);
    if (json === undefined) return undefined;
    // A number that JSON does not have becomes `null` in it, which is not what was meant.
    if (json === null) return value === null ? this.delete(name) : undefined;
    // `get` returns what the page has given, as in 0.4; the field has a copy of its own.
    const given = value as unknown as AetherValue;
    this.#given.set(name, given);
    this.#write(name, given, (field) => field.set(name, json));
    this.#given.delete(name);
    return undefined;
  }

  delete(key: string): void {
    const name = String(key);
    this.#write(name, undefined, (field) => field.delete(name));
  }

  get<T = AetherValue>(key: string): T | undefined {
    return this.#state.get(key) as T | undefined;
  }

  has(key: string): boolean {
    return this.#state.has(key);
  }

  keys(): string[] {
    return [...this.#state.keys()];
  }

  snapshot(): { [key: string]: AetherValue } {
    return Object.fromEntries(this.#state);
  }

  /** Calls back when the key changes. @throws TypeError if the callback is not a function, as all but `onStatus`. */
  on<T = AetherValue>(key: string, callback: KeyWatcher<T>): Unsubscribe {
    let watchers = this.#watchers.get(key);
    if (!watchers) this.#watchers.set(key, (watchers = new Set()));
    return add(watchers, callback as KeyWatcher<never>);
  }

  onAny(callback: AnyWatcher): Unsubscribe {
    return add(this.#anyWatchers, callback);
  }

  /** Calls back now, and whenever the client connects or loses its connection. */
  onStatus(callback: StatusWatcher): Unsubscribe {
    call([callback], this.#connected);
    this.#statusWatchers.add(callback);
    return () => this.#statusWatchers.delete(callback);
  }

  /** Calls back when a write of this client has lost against a concurrent one: once, and never for the winner. */
  onSupersede(callback: SupersedeWatcher): Unsubscribe {
    return add(this.#supersedeWatchers, callback);
  }

  onPresence(callback: PresenceWatcher): Unsubscribe {
    return add(this.#presenceWatchers, callback);
  }

  onPresenceLeave(callback: LeaveWatcher): Unsubscribe {
    return add(this.#leaveWatchers, callback);
  }

  /** Tells others a position in whole numbers. Dropped without a connection. */
  sendPresence(x: number, y: number): void {
    if (!this.#connected) return;
    this.#field?.presence.set({ x: x | 0, y: y | 0 });
  }

  /** There is something to show: from the cache, or from the gateway. Without both it waits. */
  ready(): Promise<void> {
    return this.#ready;
  }

  /** Ends the client, and writes the cache. */
  close(): void {
    for (const off of this.#offs.splice(0)) off();
    this.#cache.flush();
    void this.#field?.close();
    clearTimeout(this.#retry);
    if (this.#connected) {
      this.#connected = false;
      call(this.#statusWatchers, false);
    }
  }

  /** Removes the cache in `localStorage`; state and unsent writes stay. */
  clearCache(): void {
    this.#cache.clear();
  }

  /** Nothing throws here. Without a field, or after its end, the write is seen by this client only. */
  #write(key: string, value: AetherValue | undefined, write: (field: Field) => unknown): void {
    const field = this.#field;
    if (!field || field.status === "closed") return this.#apply(key, value);
    try {
      write(field);
    } catch (error) {
      console.error("aether:", error);
    }
    // What is too long, for example, is refused and undone at once.
    return this.#take(key, field.get(key));
  }

  /** A value of the field. Pages of 0.4 change objects that they got, so they get copies. */
  #take(key: string, value: unknown): void {
    const given = this.#given.get(key);
    this.#apply(key, given !== undefined && same(given, value) ? given : (copyOf(value) as AetherValue | undefined));
  }

  #apply(key: string, value: AetherValue | undefined): void {
    const old = this.#state.get(key);
    if (same(old, value)) return;
    if (value === undefined) this.#state.delete(key);
    else this.#state.set(key, value);
    this.#cache.save();
    call(this.#watchers.get(key) ?? [], value, old);
    call(this.#anyWatchers, key, value, old);
  }

  /** The field has data: what the cache had besides is over. */
  #adopt(field: Field): void {
    const entries = new Map(field.entries());
    for (const key of this.keys()) if (!entries.has(key)) this.#apply(key, undefined);
    for (const [key, value] of entries) this.#take(key, value);
    this.#cache.save();
  }

  #meet(others: ReadonlyMap<string, Json>): void {
    const before = this.#others;
    this.#others = new Map(others);
    for (const [id, value] of others) {
      const { x, y } = (value ?? {}) as { readonly x?: unknown; readonly y?: unknown };
      if (typeof x === "number" && typeof y === "number" && before.get(id) !== value) call(this.#presenceWatchers, id, x, y, colorOf(id));
    }
    for (const id of before.keys()) if (!others.has(id)) call(this.#leaveWatchers, id);
  }
}

/** `undefined` where nothing can connect: such a client has its cache and what the page writes. */
function open(url: string, { persist = true, cacheKey, authToken, WebSocket: given }: AetherOptions, ended: () => void): Field | undefined {
  const Base = given === undefined ? globalThis.WebSocket : given;
  if (!Base) return undefined;
  const token = typeof authToken === "string" && authToken ? authToken : undefined;
  const options: Options = { WebSocket: socketClass(Base as Parameters<typeof socketClass>[0], token, ended) };
  if (token) options.token = token;
  if (!persist) options.persist = "memory";
  if (cacheKey) options.name = cacheKey;
  return connect(url, options);
}

function colorOf(id: string): string {
  return `hsl(${sha1Head(id) % 360}, 78%, 62%)`;
}

function add<C extends (...values: never[]) => void>(callbacks: Set<C>, callback: C): Unsubscribe {
  if (typeof callback !== "function") throw new TypeError("the callback must be a function");
  callbacks.add(callback);
  return () => callbacks.delete(callback);
}

/** An error in one callback ends no other. */
function call<A extends unknown[]>(callbacks: Iterable<(...values: A) => void>, ...values: A): void {
  for (const callback of [...callbacks]) {
    try {
      callback(...values);
    } catch (error) {
      console.error("aether: a callback failed:", error);
    }
  }
}

/** As JSON has it; `undefined` if it has nothing for it. */
function copyOf(value: unknown): Json | undefined {
  try {
    const text = JSON.stringify(value) as string | undefined;
    return text === undefined ? undefined : (JSON.parse(text) as Json);
  } catch {
    return undefined;
  }
}

function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  return typeof a === "object" && typeof b === "object" && a !== null && b !== null && JSON.stringify(a) === JSON.stringify(b);
}
