/** Keeps a storage up to date: one step at a time, of everything that has changed meanwhile. */
import type { Entry, Kept } from "./records.js";
import type { Commit, Meta, Storage } from "./storage.js";
import type { View } from "./view.js";

/** The entries of one step; more would hold up the page. */
const STEP = 500;

export class Saver {
  readonly #storage: Storage;
  readonly #view: View;
  readonly #failed: (cause: unknown) => void;
  #dirty = new Set<string>();
  /** The entries that are still to be saved after a snapshot. */
  #rest: Iterator<Entry> | undefined;
  /** The number of the next part. */
  #parts = 0;
  #clear = false;
  #cursorMoved = false;
  #meta: Partial<Meta> = {};
  #remove: number[] = [];
  #put = new Map<number, Kept>();
  #uncount: { name: string; amount: bigint }[] = [];
  #running: Promise<void> | undefined;
  /** Whether entries are kept. They are not any more if there is no room for them. */
  #caches = false;
  #isWhole = false;

  /** `mayCache`: whether entries may be kept. */
  constructor(storage: Storage, view: View, private readonly mayCache: boolean, failed: (cause: unknown) => void) {
    this.#storage = storage;
    this.#view = view;
    this.#failed = failed;
  }

  /** Saves entries from now on; `isWhole` says whether the storage has all of them, and their cursor. */
  begin(isWhole: boolean): void {
    this.#caches = this.mayCache;
    this.#isWhole = this.mayCache && isWhole;
  }

  /** Whether the storage has all entries, and their cursor. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** Entries have changed, and with them the cursor. */
  entries(slots: Iterable<string>): void {
    if (!this.#caches) return;
    for (const slot of slots) this.#dirty.add(slot);
    this.#cursorMoved = true;
    this.#run();
  }

  /** Everything has changed. */
  all(): void {
    if (!this.#caches) return;
    this.#rest = this.#view.confirmed();
    this.#dirty.clear();
    this.#clear = this.#cursorMoved = true;
    this.#run();
  }

  meta(meta: Partial<Meta>): void {
    Object.assign(this.#meta, meta);
    this.#run();
  }

  remove(op: number): void {
    this.#put.delete(op);
    this.#remove.push(op);
    this.#run();
  }

  put(write: Kept): void {
    this.#put.set(write.op, write);
    this.#run();
  }

  uncount(name: string, amount: bigint): void {
    this.#uncount.push({ name, amount });
    this.#run();
  }

  /** Everything up to now is kept, or cannot be. */
  async flush(): Promise<void> {
    while (this.#running) await this.#running;
  }

  #run(): void {
    this.#running ??= this.#loop();
  }

  async #loop(): Promise<void> {
    // All of this tick is one step.
    await undefined;
    for (let step = this.#step(); step; step = this.#step()) {
      const { meta = {} } = step;
      if ("cursor" in meta && !meta.cursor) this.#isWhole = false;
      try {
        await this.#storage.commit(step);
        if (meta.cursor) this.#isWhole = true;
      } catch (cause) {
        await this.#withoutCache(step, cause);
      }
    }
    // Right here: what comes from now on starts another loop.
    this.#running = undefined;
  }

  /** Deletes the cache, so that the outbox has room. Returns whether there was one. */
  async makeRoom(): Promise<boolean> {
    if (!this.#caches) return false;
    this.leave();
    this.#caches = false;
    this.#clear = true;
    this.#meta.cursor = undefined;
    this.#run();
    await this.flush();
    return true;
  }

  /** Stops saving entries: another tab saves them from now on. */
  leave(): void {
    this.#clear = this.#cursorMoved = false;
    this.#dirty.clear();
    this.#rest = undefined;
  }

  async #withoutCache(step: Commit, cause: unknown): Promise<void> {
    this.leave();
    this.#caches = this.#isWhole = false;
    const { entries, part, ...rest } = step;
    try {
      await this.#storage.commit({ ...rest, clear: true, meta: { ...step.meta, cursor: undefined } });
    } catch {
      // The first reason is the one that tells.
    }
    this.#failed(cause);
  }

  #step(): Commit | undefined {
    const part: Entry[] = [];
    while (this.#rest && part.length < STEP) {
      const next = this.#rest.next();
      if (next.done) this.#rest = undefined;
      else part.push(next.value);
    }
    const entries: (readonly [string, Entry])[] = [];
    for (const slot of this.#dirty) {
      // Only what comes after the whole snapshot is newer than all of it.
      if (this.#rest || entries.length >= STEP) break;
      this.#dirty.delete(slot);
      entries.push([slot, this.#view.entry(slot)]);
    }
    const meta = this.#meta;
    const isComplete = !this.#rest && !this.#dirty.size;
    // A cursor without its entries would hide changes for good.
    if (!isComplete) meta.cursor = undefined;
    else if (this.#cursorMoved) Object.assign(meta, { cursor: this.#view.cursor, sequence: this.#view.sequence });
    if (isComplete) this.#cursorMoved = false;
    if (this.#clear) this.#parts = 0;
    const step = { clear: this.#clear, entries, ...(part.length && { part: { number: this.#parts++, entries: part } }), meta, remove: this.#remove, put: [...this.#put.values()], uncount: this.#uncount };
    const isEmpty = !step.clear && !part.length && !entries.length && !step.remove.length && !step.put.length && !step.uncount.length;
    this.#clear = false;
    this.#meta = {};
    this.#remove = [];
    this.#put.clear();
    this.#uncount = [];
    return isEmpty && !Object.keys(meta).length ? undefined : step;
  }
}
