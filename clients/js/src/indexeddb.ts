/** The storage in IndexedDB, which all tabs of a browser profile share. */
import type { Draft, Entry, Kept, Sums } from "./records.js";
import { newMeta, number, uncount, type Commit, type Loaded, type Meta, type Storage, type Version } from "./storage.js";

const VERSION = 1;
const STORES = ["meta", "entries", "outbox", "counts"] as const;
const META = "meta";
/** The records that are read at once; more would hold up the page. Parts of snapshots have numbers as keys, entries have texts. */
const PARTS = 2;
const ENTRIES = 1_000;

export class IndexedDbStorage implements Storage {
  readonly persistent = true;
  readonly #name: string;
  #database: Promise<IDBDatabase> | undefined;
  #closed: (reason: string) => void = () => {};

  constructor(name: string) {
    this.#name = name;
  }

  onClosed(callback: (reason: string) => void): void {
    this.#closed = callback;
  }

  async load(): Promise<Loaded> {
    const transaction = await this.#begin(["meta", "outbox"], "readwrite");
    const meta = await this.#meta(transaction);
    const outbox = await done<Kept[]>(transaction.objectStore("outbox").getAll());
    transaction.objectStore("meta").put(meta, META);
    await ended(transaction);
    return { meta, outbox };
  }

  async entries(part: (entries: readonly Entry[]) => void): Promise<Version> {
    // One transaction: another tab may clear the entries at any time.
    const transaction = await this.#begin(["meta", "entries"], "readonly");
    const { cursor, sequence } = await this.#meta(transaction);
    const store = transaction.objectStore("entries");
    await each<readonly Entry[]>(store, IDBKeyRange.upperBound("", true), PARTS, (parts) => parts.forEach(part));
    await each(store, IDBKeyRange.lowerBound(""), ENTRIES, part);
    return { cursor, sequence };
  }

  async keep(drafts: readonly Draft[]): Promise<Kept[]> {
    const transaction = await this.#begin(["meta", "outbox", "counts"], "readwrite");
    const meta = await this.#meta(transaction);
    const counts = transaction.objectStore("counts");
    const names = new Set(drafts.filter(({ amount }) => amount !== undefined).map(({ name }) => name));
    const sums = new Map<string, Sums>();
    for (const name of names) {
      const known = await done<Sums | undefined>(counts.get(name));
      if (known) sums.set(name, known);
    }
    const kept = number(drafts, meta, sums);
    transaction.objectStore("meta").put(meta, META);
    for (const [name, sum] of sums) counts.put(sum, name);
    const outbox = transaction.objectStore("outbox");
    for (const write of kept) outbox.put(write, write.op);
    await ended(transaction);
    return kept;
  }

  async commit({ clear, entries = [], part, meta, remove = [], put = [], uncount: less = [] }: Commit): Promise<void> {
    const transaction = await this.#begin(STORES, "readwrite");
    const store = transaction.objectStore("entries");
    if (clear) store.clear();
    if (part) store.put(part.entries, part.number);
    for (const [slot, entry] of entries) store.put(entry, slot);
    const outbox = transaction.objectStore("outbox");
    for (const op of remove) outbox.delete(op);
    for (const write of put) outbox.put(write, write.op);
    for (const { name, amount } of less) {
      const known = await done<Sums | undefined>(transaction.objectStore("counts").get(name));
      if (!known) continue;
      transaction.objectStore("counts").put(uncount(known, amount), name);
    }
    if (meta && Object.keys(meta).length) transaction.objectStore("meta").put({ ...(await this.#meta(transaction)), ...meta }, META);
    await ended(transaction);
  }

  close(): void {
    const database = this.#database;
    this.#database = Promise.reject(new Error("the storage is closed"));
    this.#database.catch(() => {});
    database?.then((open) => open.close()).catch(() => {});
  }

  async destroy(): Promise<void> {
    this.close();
    await done(indexedDB.deleteDatabase(this.#name));
  }

  async #begin(stores: readonly string[], mode: IDBTransactionMode): Promise<IDBTransaction> {
    const database = await this.#open();
    return database.transaction(stores, mode, { durability: "relaxed" });
  }

  async #meta(transaction: IDBTransaction): Promise<Meta> {
    return { ...newMeta(), ...(await done<Partial<Meta> | undefined>(transaction.objectStore("meta").get(META))) };
  }

  #open(): Promise<IDBDatabase> {
    return (this.#database ??= new Promise((resolve, reject) => {
      const opening = indexedDB.open(this.#name, VERSION);
      opening.onupgradeneeded = () => {
        for (const name of STORES) if (!opening.result.objectStoreNames.contains(name)) opening.result.createObjectStore(name);
      };
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const database = opening.result;
        database.onversionchange = database.onclose = ({ type }) => {
          this.close();
          this.#closed(`the database was closed: ${type}`);
        };
        resolve(database);
      };
    }));
  }
}

/** Reads the records of a range, some at once. */
async function each<T>(store: IDBObjectStore, range: IDBKeyRange, count: number, call: (records: T[]) => void): Promise<void> {
  for (let rest = range; ; ) {
    const [keys, records] = await Promise.all([done(store.getAllKeys(rest, count)), done<T[]>(store.getAll(rest, count))]);
    call(records);
    const last = keys[keys.length - 1];
    if (keys.length < count || last === undefined) return;
    rest = range.upper === undefined ? IDBKeyRange.lowerBound(last, true) : IDBKeyRange.bound(last, range.upper, true, true);
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ended(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was undone"));
  });
}
