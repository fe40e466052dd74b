/** The storage of a client: its id, its unconfirmed writes and the confirmed entries; and the storage in memory. */
import type { Cursor, Draft, Entry, Kept, Sums } from "./records.js";

export interface Meta {
  /** The id of the client, which nobody else may know. */
  client: string;
  /** The number of the last write. */
  op: number;
  /** The time of the last write. */
  at: number;
  /** The clock of the gateway minus the clock of this machine, in milliseconds. */
  skew: number;
  cursor: Cursor | undefined;
  /** Counts the changes of entries that other tabs were told of, up to those that are in the storage. */
  sequence: number;
}

/** Which state the entries of a storage are. */
export type Version = Readonly<Pick<Meta, "cursor" | "sequence">>;

/** One step; all of it is kept, or nothing. */
export interface Commit {
  /** Forgets all entries first. */
  readonly clear?: boolean;
  /** Entries by slot, in place of those of the same slot. An entry may say that something is not there any more. */
  readonly entries?: readonly (readonly [slot: string, entry: Entry])[];
  /** A part of a snapshot, by its number. Entries by slot are newer than those of parts. */
  readonly part?: { readonly number: number; readonly entries: readonly Entry[] };
  readonly meta?: Partial<Meta>;
  /** Numbers of writes that are no longer needed. */
  readonly remove?: readonly number[];
  readonly put?: readonly Kept[];
  /** What the sums of own counts fall by, after a refusal. */
  readonly uncount?: readonly { readonly name: string; readonly amount: bigint }[];
}

export interface Loaded {
  readonly meta: Meta;
  readonly outbox: readonly Kept[];
}

/** Where a client keeps its outbox and its cache. Calls do not overlap, but for `keep`, which any tab may call at any time. */
export interface Storage {
  /** Whether it outlives the page. */
  readonly persistent: boolean;
  /** Reads all but the entries. Gives the client an id if it has none. */
  load(): Promise<Loaded>;
  /** Reads the entries, all as they are at one moment: the parts of the snapshot, then those by slot. */
  entries(part: (entries: readonly Entry[]) => void): Promise<Version>;
  /** Gives writes their numbers, times and sums, and keeps them, in one step. */
  keep(drafts: readonly Draft[]): Promise<Kept[]>;
  commit(step: Commit): Promise<void>;
  close(): void;
  /** Deletes everything. */
  destroy(): Promise<void>;
  /** Calls back if the storage was closed from outside. */
  onClosed?(callback: (reason: string) => void): void;
}

/** Gives drafts their numbers. `sums` reads and changes the sums of the client. */
export function number(drafts: readonly Draft[], meta: Meta, sums: Map<string, Sums>): Kept[] {
  return drafts.map((draft) => {
    meta.op += 1;
    // Microseconds are what the gateway keeps.
    meta.at = Math.max(meta.at + 0.001, draft.at);
    const kept = { ...draft, op: meta.op, at: Math.round(meta.at * 1000) / 1000 };
    if (draft.amount === undefined) return kept;
    const old = sums.get(draft.name) ?? { up: 0n, down: 0n };
    const up = draft.amount > 0n ? old.up + draft.amount : old.up;
    const down = draft.amount < 0n ? old.down - draft.amount : old.down;
    sums.set(draft.name, { up, down });
    return { ...kept, up, down };
  });
}

/** The sums without an amount. */
export function uncount({ up, down }: Sums, amount: bigint): Sums {
  return amount > 0n ? { up: up - amount, down } : { up, down: down + amount };
}

export function newMeta(): Meta {
  return { client: newClient(), op: 0, at: 0, skew: 0, cursor: undefined, sequence: 0 };
}

/** An id that nobody can guess. `randomUUID` is there on secure pages only; some environments for tests have nothing else. */
export function newClient(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Keeps nothing beyond the page. */
export class MemoryStorage implements Storage {
  readonly persistent = false;
  readonly #meta = newMeta();
  readonly #sums = new Map<string, Sums>();

  load(): Promise<Loaded> {
    return Promise.resolve({ meta: { ...this.#meta }, outbox: [] });
  }

  entries(): Promise<Version> {
    return Promise.resolve(this.#meta);
  }

  keep(drafts: readonly Draft[]): Promise<Kept[]> {
    return Promise.resolve(number(drafts, this.#meta, this.#sums));
  }

  commit(step: Commit): Promise<void> {
    for (const { name, amount } of step.uncount ?? []) {
      const known = this.#sums.get(name);
      if (known) this.#sums.set(name, uncount(known, amount));
    }
    if (step.meta?.at !== undefined) this.#meta.at = step.meta.at;
    return Promise.resolve();
  }

  close(): void {}

  destroy(): Promise<void> {
    return Promise.resolve();
  }
}

