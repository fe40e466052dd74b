/** The public field. */
import { Core, type Surroundings, type WriteContent } from "./core.js";
import { encode, freeze, hasLoneSurrogate, utf8Length } from "./json.js";
import { matches, wireMember, type WireMember, type WriteKind } from "./records.js";
import type { Change, Counter, Field, Json, Member, Members, Off, Options, Presence, Refusal, Schema, Status, Superseded, Write } from "./types.js";
import type { Changes } from "./view.js";
import { NamedWatchers, Watchers } from "./watchers.js";
import { Batch, TimeoutError } from "./writes.js";

declare const process: { readonly env: { readonly NODE_ENV?: string } };

/** In development, values are frozen, so that changing one in place is found at once. Bundlers put the answer here. */
const IS_DEVELOPMENT = ((): boolean => {
  try {
    return process.env.NODE_ENV !== "production";
  } catch {
    return false;
  }
})();

export class FieldClient implements Field {
  readonly presence: Presence;
  readonly #core: Core;
  readonly #keys = new NamedWatchers<Change>();
  /** Of patterns that end with `*`. */
  readonly #patterns = new NamedWatchers<Change>();
  readonly #counters = new NamedWatchers<number | bigint>();
  readonly #sets = new NamedWatchers<readonly Member[]>();
  /** The writes of the present batch. */
  #batch: Write[] | undefined;

  constructor(url: string | readonly string[], options: Options = {}, surroundings?: Surroundings) {
    const isWatched = (key: string): boolean => this.#keys.has(key) || [...this.#patterns.names()].some((pattern) => matches(pattern, key));
    const core = new Core(url, options, (changes) => this.#changed(changes), isWatched, surroundings);
    this.#core = core;
    this.presence = {
      set(value, room) {
        encode(value);
        core.participants.announce(value, room);
      },
      others(room) {
        core.watchPresence();
        return core.participants.of(room);
      },
      on(callback, room) {
        core.watchPresence();
        const watchers = new Watchers<ReadonlyMap<string, Json>>();
        watchers.add(callback);
        let last = core.participants.of(room);
        return core.participants.watchers.add(() => {
          const now = core.participants.of(room);
          if (now !== last) watchers.call((last = now));
        });
      },
    };
  }

  get name(): string {
    return this.#core.name;
  }

  get id(): string | undefined {
    return this.#core.participants.id;
  }

  get status(): Status {
    return this.#core.status;
  }

  get persisted(): boolean {
    return this.#core.persisted;
  }

  get pending(): number {
    return this.#core.view.pending;
  }

  get(key: string): any {
    return shown(this.#core.view.values.get(key));
  }

  has(key: string): boolean {
    return this.#core.view.values.has(key);
  }

  keys(pattern = "*"): string[] {
    return [...this.#core.view.values.keys()].filter((key) => matches(pattern, key));
  }

  entries(pattern = "*"): [string, unknown][] {
    return [...this.#core.view.values].filter(([key]) => matches(pattern, key)).map(([key, value]) => [key, shown(value)]);
  }

  snapshot(pattern = "*"): Record<string, unknown> {
    const all = Object.create(null) as Record<string, unknown>;
    for (const [key, value] of this.entries(pattern)) all[key] = value;
    return all;
  }

  set(key: string, value: unknown): Write {
    checkName(key, "the key");
    const json = encode(value);
    // The caller may change its object later.
    const own: unknown = typeof value === "object" ? JSON.parse(json) : value;
    return this.#write("set", key, value, { json, value: own });
  }

  delete(key: string): Write {
    checkName(key, "the key");
    return this.#write("delete", key, undefined, {});
  }

  update(key: string, next: (old: any) => unknown): Write {
    const value = next(this.get(key));
    return value === undefined ? this.delete(key) : this.set(key, value);
  }

  batch(writes: () => void): Write {
    const outer = this.#batch;
    const mine: Write[] = (this.#batch = []);
    try {
      this.#core.batch(writes);
    } finally {
      this.#batch = outer;
    }
    return this.#note(new Batch(mine));
  }

  counter(name: string): Counter {
    checkName(name, "the name");
    const { view } = this.#core;
    return {
      get value() {
        return view.sum(name);
      },
      add: (amount) => {
        if (!Number.isSafeInteger(amount)) throw new TypeError(`${String(amount)} is not a whole number`);
        return this.#write("count", name, amount, { amount: BigInt(amount) });
      },
      on: (callback) => this.#counters.add(name, callback),
    };
  }

  members(name: string): Members {
    checkName(name, "the name");
    const { view } = this.#core;
    return {
      has: (member) => view.hasMember(name, checkMember(member)),
      values: () => view.members(name),
      add: (member) => this.#write("insert", name, member, { member: checkMember(member) }),
      delete: (member) => this.#write("discard", name, member, { member: checkMember(member) }),
      on: (callback) => this.#sets.add(name, callback),
    };
  }

  on(pattern: string, callback: (change: Change) => void, { signal, now = false }: { signal?: AbortSignal; now?: boolean } = {}): Off {
    if (signal?.aborted) return () => {};
    const remove = (pattern.endsWith("*") ? this.#patterns : this.#keys).add(pattern, callback);
    const off = (): void => {
      remove();
      signal?.removeEventListener("abort", off);
    };
    signal?.addEventListener("abort", off);
    if (now) {
      const present = new Watchers<Change>();
      present.add(callback);
      for (const [key, value] of this.entries(pattern)) {
        present.call({ key, value, old: undefined, version: this.#core.view.visibleVersion(key), by: "remote" });
      }
    }
    return off;
  }

  onRefused(callback: (refusal: Refusal) => void): Off {
    return this.#core.refusedWatchers.add(callback);
  }

  onSuperseded(callback: (superseded: Superseded) => void): Off {
    return this.#core.supersededWatchers.add(callback);
  }

  onStatus(callback: (status: Status) => void): Off {
    return this.#core.statusWatchers.add(callback);
  }

  onPending(callback: (pending: number) => void): Off {
    return this.#core.pendingWatchers.add(callback);
  }

  ready({ timeout }: { timeout?: number } = {}): Promise<void> {
    return bounded(this.#core.ready, timeout, () => `no data within ${timeout} ms: ${this.status}`);
  }

  synced(ms?: number): Promise<void> {
    let off: Off = () => {};
    const done = new Promise<void>((resolve) => {
      if (!this.pending) return resolve();
      off = this.onPending((pending) => {
        if (pending) return;
        off();
        resolve();
      });
    });
    return bounded(done, ms, () => `${this.pending} writes are pending after ${ms} ms: ${this.status}`).finally(() => off());
  }

  retry(): void {
    this.#core.retry();
  }

  dehydrate(pattern = "*"): string {
    const entries = [...this.#core.view.confirmed(pattern)];
    return JSON.stringify({ entries }, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
  }

  close(): Promise<void> {
    return this.#core.close();
  }

  forget(): Promise<void> {
    return this.#core.forget();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #note<W extends Write>(write: W): W {
    this.#batch?.push(write);
    return write;
  }

  /** Makes a write, or refuses it. `given` is what the caller gave. */
  #write(kind: WriteKind, name: string, given: unknown, content: WriteContent): Write {
    const problem = this.#problemOf(name, content);
    return this.#note(problem ? this.#core.refuse(name, given, ...problem) : this.#core.write(kind, name, content));
  }

  /** Why the gateway would refuse it. */
  #problemOf(name: string, { json = "", member = "" }: WriteContent): readonly [code: string, message: string] | undefined {
    const { key, value } = this.#core.limits;
    if (!name) return ["key-size", "a name has at least one byte"];
    if (json === "null") return ["null", "a field holds no null; delete the key instead"];
    const sizes = [
      ["key-size", "the name", utf8Length(name), key],
      ["key-size", "the member", typeof member === "object" ? member.base64.length * 0.75 : utf8Length(member), key],
      // A unit of UTF-16 has at most three bytes.
      ["value-size", "the value", json.length * 3 > value ? utf8Length(json) : 0, value],
    ] as const;
    for (const [code, what, bytes, most] of sizes) if (bytes > most) return [code, `${what} has ${bytes} bytes; ${most} are allowed`];
    return undefined;
  }

  #changed({ registers, counters, sets }: Changes): void {
    if (this.#keys.size || this.#patterns.size) {
      for (const change of registers) {
        shown(change.value);
        this.#keys.call(change.key, () => change);
        for (const pattern of this.#patterns.names()) if (matches(pattern, change.key)) this.#patterns.call(pattern, () => change);
      }
    }
    const { view } = this.#core;
    for (const name of counters) this.#counters.call(name, () => view.sum(name));
    for (const name of sets) this.#sets.call(name, () => view.members(name));
  }
}

function shown<T>(value: T): T {
  return IS_DEVELOPMENT ? freeze(value) : value;
}

function checkName(name: unknown, what: string): asserts name is string {
  if (typeof name !== "string") throw new TypeError(`${what} is not a text`);
  if (hasLoneSurrogate(name)) throw new TypeError(`${what} has half of a surrogate pair`);
}

function checkMember(member: Member): WireMember {
  if (!(member instanceof Uint8Array)) checkName(member, "the member");
  return wireMember(member);
}

function bounded(promise: Promise<void>, ms: number | undefined, message: () => string): Promise<void> {
  if (ms === undefined) return promise;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TimeoutError(message())), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/**
 * Connects to a field, at once; it never throws for reasons of the network.
 *
 * @param url The address of the field, such as `ws://127.0.0.1:8080/field/home/ws`; several are tried in turn.
 * @throws TypeError if the address is not one, or if there is no WebSocket here.
 */
export function connect<S extends Schema = Record<string, any>>(url: string | readonly string[], options: Options = {}): Field<S> {
  return new FieldClient(url, options) as unknown as Field<S>;
}

