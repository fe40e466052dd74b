/** One client: its view, its storage, and its part among the tabs. The public field is a face of it. */
import { addressOf } from "./connection.js";
import { environment, type Environment } from "./environment.js";
import type { FieldEvent, Limits } from "./events.js";
import { IndexedDbStorage } from "./indexeddb.js";
import { isBelow, slotOf, type Cursor, type Draft, type Entry, type Kept, type WireMember, type WriteKind } from "./records.js";
import { Participants } from "./participants.js";
import { Saver } from "./saver.js";
import { Session } from "./session.js";
import { MemoryStorage, newClient, type Loaded, type Storage } from "./storage.js";
import { Tabs, type TabMessage, type TabsOwner, type TabsPort } from "./tabs.js";
import type { FieldProblem, Off, Options, Refusal, Status, Superseded } from "./types.js";
import { View, type Changes, type Own } from "./view.js";
import { report, Watchers } from "./watchers.js";
import { Handle, Refused } from "./writes.js";

/** The writes that are kept in one step; more would hold up the page. */
const KEEP = 1_000;
/** A leader that says nothing for so long is frozen. */
const LEADER_MS = 3_000;

/** The parts of a browser that a simulation replaces. */
export interface Surroundings {
  readonly of: Environment;
  readonly tabs: (name: string, owner: TabsOwner) => TabsPort | undefined;
}

export interface WriteContent {
  readonly member?: WireMember;
  readonly json?: string;
  readonly value?: unknown;
  readonly amount?: bigint;
}

export class Core {
  readonly name: string;
  readonly view = new View();
  readonly statusWatchers = new Watchers<Status>();
  readonly pendingWatchers = new Watchers<number>();
  readonly refusedWatchers = new Watchers<Refusal>();
  readonly supersededWatchers = new Watchers<Superseded>();
  readonly participants: Participants;
  status: Status = "connecting";
  limits: Limits = { key: 256, value: 32_768 };
  /** Resolves when data are there; rejects when the client ends before. */
  readonly ready: Promise<void>;
  isReady = false;
  readonly #urls: readonly string[];
  readonly #options: Options;
  readonly #patterns: readonly string[];
  readonly #durable: boolean;
  readonly #of: Environment;
  readonly #changed: (changes: Changes) => void;
  readonly #tab = newClient();
  #drafts = 0;
  #storage: Storage;
  #saver: Saver;
  #tabs: TabsPort | undefined;
  #session: Session | undefined;
  /** The last storage step of own writes; the first one is loading. */
  #keeping: Promise<void>;
  #unkept: Draft[] = [];
  #willKeep = false;
  readonly #handles = new Map<string, Handle>();
  /** Writes that are not in the storage any more: they were answered while this page was frozen and heard nothing. */
  #unheard: Own[] = [];
  #watchesPresence = false;
  #skew = 0;
  #pending = 0;
  #depth = 0;
  #isCalling = false;
  /** Messages of the leader while this tab reads the storage. */
  #early: TabMessage[] | undefined;
  /** The greatest number of a write that this tab has taken as the leader. */
  #lastOp = 0;
  /** Writes of other tabs while this one begins to lead. */
  #untaken: Kept[] | undefined;
  #offLeader: Off | undefined;
  /** Counts the parts that this tab has played; what belongs to an earlier one is dropped. */
  #part = 0;
  #outgoing: FieldEvent[] = [];
  #hasStorageProblem = false;
  #setReady: () => void = () => {};
  #failReady: (error: Error) => void = () => {};

  /** `isWatched`: whether somebody wants to hear of a key. */
  constructor(url: string | readonly string[], options: Options, changed: (changes: Changes) => void, isWatched: (key: string) => boolean, surroundings?: Surroundings) {
    this.#urls = (typeof url === "string" ? [url] : url).map(addressOf);
    this.#options = options;
    this.#patterns = options.patterns ?? ["*"];
    this.#durable = options.durable ?? true;
    this.#of = surroundings?.of ?? environment(options.WebSocket);
    this.#changed = changed;
    this.view.isWatched = isWatched;
    this.name = `aether-field:${options.name ?? defaultName(this.#urls[0] ?? "", options.user, this.#patterns)}`;
    this.ready = new Promise((resolve, reject) => {
      this.#setReady = resolve;
      this.#failReady = reject;
    });
    this.ready.catch(() => {});
    this.#setCovers(["*"]);
    this.#storage = this.#choose(options.persist);
    this.#keeping = Promise.resolve();
    if (this.#storage.persistent && options.tabs !== false) {
      const owner = { lead: () => this.#lead(), follow: () => this.#follow(), rest: () => this.#rest(), message: (message: TabMessage) => this.#hear(message) };
      this.#tabs = (surroundings?.tabs ?? Tabs.open)(this.name, owner);
    }
    this.participants = new Participants(this.#tab, { tabs: () => this.#tabs, announce: (announcement) => this.#session?.announce(announcement) });
    this.#saver = this.#newSaver();
    if (this.#tabs) this.#tabs.start();
    else this.#lead();
  }

  get persisted(): boolean {
    return this.#storage.persistent;
  }

  // Own writes.

  write(kind: WriteKind, name: string, content: WriteContent = {}): Handle {
    const handle = new Handle();
    const { value, ...rest } = content;
    const slot = slotOf({ kind, name, ...rest } as Draft);
    const draft: Draft = { id: `${this.#tab}.${++this.#drafts}`, kind, name, ...rest, replaces: this.view.seen(slot, name), at: this.now() };
    this.#handles.set(draft.id, handle);
    this.view.add(draft, value, "me");
    if (!this.#unkept.length) queueMicrotask(() => this.#keep());
    this.#unkept.push(draft);
    this.flush();
    return handle;
  }

  /** Refuses a write that was not made. */
  refuse(name: string, value: unknown, code: string, message: string): Handle {
    const write = new Handle();
    write.refuse(new Refused(code, message));
    queueMicrotask(() => this.refusedWatchers.call({ write, key: name, value, code, message }));
    return write;
  }

  /** Holds back all callbacks until the writes are made. */
  batch(writes: () => void): void {
    this.#depth++;
    try {
      writes();
    } finally {
      this.#depth--;
      this.flush();
    }
  }

  /** The clock of the gateway, in milliseconds since 1970. */
  now(): number {
    return this.#session ? this.#session.connection.clock.now() : this.#of.wall() + this.#skew;
  }

  // Presence.

  watchPresence(): void {
    if (this.#watchesPresence) return;
    this.#watchesPresence = true;
    this.#tell({ type: "watch-presence" });
  }

  /** Tells the leader, which may be this tab. */
  #tell(message: TabMessage): void {
    if (this.#session) this.#hear(message);
    else this.#tabs?.post(message);
  }

  // The end.

  retry(): void {
    this.#tell({ type: "retry" });
  }

  async close(): Promise<void> {
    if (this.status === "closed") return;
    const { persistent } = this.#storage;
    this.#part++;
    // It may still be loading.
    this.#end();
    this.#become("closed");
    do {
      this.#keep();
      await this.#keeping;
    } while (this.#unkept.length);
    await this.#saver.flush();
    this.#tabs?.stop();
    this.#offLeader?.();
    this.#storage.close();
    const error = new Refused("closed", "the client was closed");
    this.#failReady(error);
    // Those in the storage are sent by the next client.
    if (!persistent) for (const handle of this.#handles.values()) handle.refuse(error);
    this.#handles.clear();
  }

  async forget(): Promise<void> {
    await this.close();
    await this.#storage.destroy();
  }

  // Parts: leader, follower, neither.

  #lead(): void {
    const part = ++this.#part;
    this.#offLeader?.();
    this.#offLeader = undefined;
    this.#early = undefined;
    this.#untaken = [];
    this.participants.appear();
    this.#chain(async () => {
      let loaded = await this.#load(part);
      if (!loaded && part === this.#part) {
        // The storage failed, and the one in memory took its place.
        loaded = await this.#storage.load();
      }
      if (!loaded || part !== this.#part || this.status === "closed") return;
      const { meta, outbox } = loaded;
      this.#skew = meta.skew;
      this.#saver.begin(meta.cursor !== undefined);
      // The gateway sends again what the storage lacks, for the next reload.
      this.view.cursor = meta.cursor;
      const setup = { url: this.#urls, token: this.#options.token, patterns: this.#patterns, durable: this.#durable, client: meta.client, skew: meta.skew };
      const emit = (event: FieldEvent): void => {
        if (part === this.#part) this.#emit(event);
      };
      const session = new Session(setup, this.view, this.#saver, { emit, problem: (problem) => this.problem(problem) }, this.#of);
      this.#session = session;
      session.add(outbox, true);
      this.#lastOp = meta.op;
      const untaken = this.#untaken ?? [];
      this.#untaken = undefined;
      if (untaken.length) this.#take(untaken);
      if (this.#watchesPresence) session.watchPresence();
      this.participants.announceAll();
      session.start();
      // Followers that wait for the one before.
      this.#greet("");
    });
  }

  #joinAgain(): void {
    if (this.#session || this.#untaken || !this.#tabs) return;
    this.view.cursor = undefined;
    this.#follow();
  }

  #follow(): void {
    this.#part++;
    this.#untaken = undefined;
    this.#early = [];
    this.#tabs?.post({ type: "join", tab: this.#tab });
    this.participants.appear();
    this.#expectLeader();
  }

  #rest(): void {
    this.#part++;
    this.#untaken = undefined;
    this.#offLeader?.();
    this.#offLeader = undefined;
    this.#early = undefined;
    this.#saver.leave();
    this.participants.leave();
    this.#end();
  }

  /** Ends the connection of this tab. */
  #end(): void {
    const session = this.#session;
    this.#session = undefined;
    session?.close();
    this.view.abandon();
    this.participants.connection = undefined;
  }

  /** Reads what the storage has that this tab does not know. Undefined if it failed. */
  async #load(part: number): Promise<Loaded | undefined> {
    try {
      const known = this.#numbered();
      const loaded = await this.#storage.load();
      if (part !== this.#part) return undefined;
      const { meta, outbox } = loaded;
      if (this.#mayCache) {
        // Without a cursor the storage lacks entries: it serves only a client that has nothing else. And a leader that ended may have
        // said more than it stored.
        if (!this.isReady || (meta.cursor && !isAtLeast(this.view.cursor, meta.cursor))) {
          let first = true;
          let last: readonly Entry[] = [];
          const version = await this.#storage.entries((entries) => {
            if (part !== this.#part) return;
            this.view.part(last, first, false, undefined, undefined);
            first = false;
            last = entries;
          });
          if (part !== this.#part) return undefined;
          Object.assign(meta, version);
          if (this.isReady && !meta.cursor) {
            this.view.abandon();
          } else {
            this.view.part(last, first, true, undefined, meta.cursor);
            if (meta.cursor || this.view.values.size) this.#becomeReady();
          }
        }
        this.view.sequence = meta.cursor ? meta.sequence : -1;
      }
      if (this.#storage.persistent) {
        const kept = new Set(outbox.map(({ op }) => op));
        this.#unheard = known.filter(({ op }) => !kept.has(op));
        if (this.#mayCache && meta.cursor) this.#endUnheard();
      }
      for (const write of outbox) this.view.stored(write, parse(write));
      this.flush();
      return loaded;
    } catch (cause) {
      if (part === this.#part) this.#detach(cause);
      return undefined;
    }
  }

  #numbered(): (Own & { readonly op: number })[] {
    return [...this.view.owns()].filter((own): own is Own & { op: number } => own.op !== undefined);
  }

  /** Drops the writes that ended unheard; the confirmed state has what became of them. */
  #endUnheard(): void {
    for (const own of this.#unheard) {
      const handle = this.#handles.get(own.write.id);
      this.#forget(own.write);
      this.view.drop(own, "remote");
      handle?.refuse(new Refused("unknown", "nobody heard how the write ended"));
    }
    this.#unheard = [];
  }

  /** Goes on in memory, as a client of its own: the storage cannot be used. */
  #detach(cause: unknown): void {
    this.#storageProblem(cause);
    if (!this.#storage.persistent) return;
    this.#tabs?.stop();
    this.#tabs = undefined;
    this.#part++;
    this.#end();
    this.#storage.close();
    this.#storage = new MemoryStorage();
    this.#saver = this.#newSaver();
    // What was not kept is kept again, under the new id.
    this.#unkept = [...this.view.owns()].filter(({ op }) => op === undefined).map(({ write }) => write);
    if (this.status !== "closed") this.#lead();
    this.#keep();
  }

  #storageProblem(cause: unknown): void {
    if (this.#hasStorageProblem) return;
    this.#hasStorageProblem = true;
    this.problem({ code: "storage", message: `the storage failed: ${String(cause)}`, cause });
  }

  #choose(persist: Options["persist"]): Storage {
    if (typeof persist === "object") return persist;
    try {
      if (persist !== "memory" && typeof indexedDB !== "undefined" && indexedDB) {
        const storage = new IndexedDbStorage(this.name);
        storage.onClosed((reason) => {
          if (this.status !== "closed" && storage === this.#storage) this.#detach(new Error(reason));
        });
        return storage;
      }
      if (persist === "indexeddb") this.#storageProblem(new Error("there is no IndexedDB here"));
    } catch (cause) {
      // A sandboxed frame may not even look at it.
      this.#storageProblem(cause);
    }
    return new MemoryStorage();
  }

  /** Whether entries may be saved. Tabs that cannot talk to each other would save entries of different revisions. */
  get #mayCache(): boolean {
    return this.#storage.persistent && (this.#tabs !== undefined || typeof this.#options.persist === "object");
  }

  #newSaver(): Saver {
    return new Saver(this.#storage, this.view, this.#mayCache, (cause) => this.#storageProblem(cause));
  }

  #chain(step: () => Promise<void>): void {
    this.#keeping = this.#keeping.then(step).catch(report);
  }

  /** Keeps drafts, and hands them on. Those that come before this step begins are in it. */
  #keep(): void {
    if (this.#willKeep || !this.#unkept.length) return;
    this.#willKeep = true;
    this.#chain(async () => {
      this.#willKeep = false;
      const drafts = this.#unkept.splice(0, KEEP);
      this.#keep();
      try {
        if (drafts.length) this.#hand(await this.#store(drafts));
      } catch (cause) {
        this.#detach(cause);
      }
    });
  }

  async #store(drafts: readonly Draft[]): Promise<Kept[]> {
    try {
      return await this.#storage.keep(drafts);
    } catch (cause) {
      // Only the tab that keeps the cache may give it up.
      if (!this.#session || !(await this.#saver.makeRoom())) throw cause;
      const kept = await this.#storage.keep(drafts);
      this.#storageProblem(cause);
      return kept;
    }
  }

  #hand(writes: readonly Kept[]): void {
    // The leader may have found some of them in the storage, and finished them.
    const there = writes.filter((write) => this.view.number(write));
    if (this.#storage.persistent) for (const { id } of there) this.#handles.get(id)?.keep();
    this.flush();
    if (this.#session) {
      this.#take(there);
    } else if (this.#tabs && there.length) {
      this.#tabs.post({ type: "kept", writes: there });
      this.#expectLeader();
    }
  }

  /** The leader takes writes of any tab, and tells all of them, so that everything about a write comes in one order. */
  #take(writes: readonly Kept[], mayHaveBeenSent = false): void {
    if (!writes.length) return;
    this.#emit({ type: "kept", writes });
    this.#session?.add(writes, mayHaveBeenSent);
    const [first, last] = [writes[0]?.op ?? 0, writes[writes.length - 1]?.op ?? 0];
    const isGap = first > this.#lastOp + 1;
    this.#lastOp = Math.max(this.#lastOp, last);
    if (isGap && !mayHaveBeenSent && this.#tabs) this.#reread();
  }

  /** Takes writes of tabs that crashed before they could hand them over. */
  #reread(): void {
    const part = this.#part;
    this.#chain(async () => {
      // Writes that are answered while this reads are not taken again.
      const known = new Set(this.#numbered().map(({ op }) => op));
      await this.#saver.flush();
      const { outbox } = await this.#storage.load();
      if (part === this.#part) this.#take(outbox.filter(({ op }) => !known.has(op) && !this.view.own(op)), true);
    });
  }

  #expectLeader(): void {
    this.#offLeader ??= this.#of.after(LEADER_MS, () => {
      this.#offLeader = undefined;
      this.#tabs?.steal();
    });
  }

  // Messages of other tabs.

  #hear(message: TabMessage): void {
    switch (message.type) {
      case "join":
        this.participants.appear();
        if (!this.#session) return;
        this.#reread();
        void this.#welcome(message.tab);
        return;
      case "announce":
        return this.participants.hear(message);
      case "watch-presence":
        return this.#session?.watchPresence();
      case "retry":
        return this.#session?.connection.retry();
      case "kept":
        if (this.#session) this.#take(message.writes);
        else this.#untaken?.push(...message.writes);
        return;
      default:
        if (this.#session) return;
        this.#offLeader?.();
        this.#offLeader = undefined;
        this.#follower(message);
    }
  }

  #follower(message: TabMessage): void {
    if (message.type === "joined") {
      const { tab, events, sequence, isComplete } = message;
      if (tab !== this.#tab && tab !== "") return;
      if (tab === "") {
        this.participants.appear();
        if (!this.#early) return this.#follow();
        // Drops changes that the old leader reported and the new one does not have.
        this.#early = this.#early.filter((early) => early.type === "events" && early.sequence <= sequence);
      }
      this.#join(events, sequence, isComplete);
    } else if (this.#early) {
      this.#early.push(message);
    } else {
      this.#replay(message);
    }
  }

  #replay(message: TabMessage, isEarly = false): void {
    if (message.type !== "events") return;
    // The storage had this change already; an older sum would come back.
    const isKnown = isEarly && message.sequence <= this.view.sequence;
    for (const event of message.events) {
      if (!isKnown) this.#apply(event);
      else if (event.type === "acked") this.#apply({ ...event, isNew: false });
      else if (event.type !== "entries" && event.type !== "part") this.#apply(event);
    }
    if (!isKnown) this.view.sequence = message.sequence;
    this.flush();
  }

  #join(events: readonly FieldEvent[], sequence: number, isComplete: boolean): void {
    const part = this.#part;
    this.#chain(async () => {
      // A new leader may greet all tabs, and then this one. A second load would bring back writes that are done since the first.
      if (part !== this.#part || !this.#early) return;
      const loaded = await this.#load(part);
      if (!loaded || part !== this.#part) return;
      // The storage was whole when the leader greeted, and is not any more.
      if (isComplete && !loaded.meta.cursor && !events.some(({ type }) => type === "part")) return this.#follow();
      const early = this.#early;
      this.#early = undefined;
      for (const event of events) {
        this.#apply(event);
        if (event.type === "part") this.view.sequence = sequence;
      }
      this.flush();
      for (const message of early) this.#replay(message, true);
      if (this.#watchesPresence) this.#tabs?.post({ type: "watch-presence" });
    });
  }

  async #welcome(tab: string): Promise<void> {
    await this.#saver.flush();
    if (this.#session) this.#greet(tab);
  }

  /** Tells a new follower what it cannot read from the storage. */
  #greet(tab: string): void {
    const events: FieldEvent[] = [{ type: "clock", skew: this.#skew }];
    const { view } = this;
    const isComplete = view.cursor !== undefined;
    if (isComplete && !this.#saver.isWhole) events.push({ type: "part", entries: [...view.confirmed()], first: true, done: true, patterns: undefined, cursor: view.cursor });
    const { connection } = this.participants;
    if (connection !== undefined) events.push({ type: "greeted", id: connection, read: this.#read, limits: this.limits });
    events.push({ type: "alone" });
    for (const [id, participant] of this.participants.others()) events.push({ type: "presence", id, ...participant });
    events.push({ type: "status", status: this.status });
    this.#tabs?.post({ type: "joined", tab, events, sequence: view.sequence, isComplete });
  }

  #note(writes: readonly Kept[]): void {
    for (const write of writes) this.view.add(write, parse(write), "tab");
    this.flush();
  }

  // Events of the connection, its own or the leader's.

  #emit(event: FieldEvent): void {
    this.#apply(event);
    if (event.type === "entries" || event.type === "part" || event.type === "acked") this.view.sequence++;
    if (this.#tabs) {
      if (!this.#outgoing.length) queueMicrotask(() => this.#post());
      this.#outgoing.push(event);
    }
    this.flush();
  }

  #post(): void {
    const events = this.#outgoing;
    this.#outgoing = [];
    this.#tabs?.post({ type: "events", events, sequence: this.view.sequence });
  }

  #read: readonly string[] = ["*"];

  #apply(event: FieldEvent): void {
    const { view } = this;
    switch (event.type) {
      case "entries":
        return view.apply(event.entries, event.cursor);
      case "part":
        // A follower that came in the middle reads all of it from the storage, once it is there.
        if (event.done && !event.first && !view.isBuilding && !this.#session) queueMicrotask(() => this.#joinAgain());
        view.part(event.entries, event.first, event.done, event.patterns, event.cursor);
        if (!event.cursor || view.isBuilding) return;
        this.#endUnheard();
        return this.#becomeReady();
      case "lost":
        this.participants.connection = undefined;
        return view.abandon();
      case "kept":
        return this.#note(event.writes);
      case "sent":
        for (const op of event.ops) this.#handle(op)?.send();
        return;
      case "replaced": {
        const handle = this.#handle(event.op);
        this.#forget(view.replaced(event.op, event.by)?.write);
        // One of another tab needs a handle here, too.
        const later = view.own(event.by)?.write.id;
        if (!handle || later === undefined) return;
        const by = this.#handles.get(later) ?? new Handle();
        this.#handles.set(later, by);
        return handle.replace(by);
      }
      case "acked":
        view.acked(event.op, event.version, event.counted, event.isNew);
        return this.#handle(event.op)?.ack();
      case "done": {
        const handle = this.#handle(event.op);
        this.#forget(view.done(event.op, "remote")?.write);
        return handle?.finish(event.how);
      }
      case "refused":
        return this.#refused(event.op, event.code, event.message);
      case "superseded":
        return this.supersededWatchers.call(event.superseded);
      case "status":
        if (event.status !== "closed") this.#become(event.status);
        return;
      case "clock":
        this.#skew = event.skew;
        return;
      case "greeted":
        this.participants.connection = event.id;
        this.limits = event.limits;
        return this.#setCovers(event.read);
      case "alone":
        return this.participants.alone();
      case "presence":
        return this.participants.meet(event.id, event);
    }
  }

  #refused(op: number, code: string, message: string): void {
    const own = this.view.own(op);
    if (!own) return;
    const handle = this.#handles.get(own.write.id);
    this.#forget(own.write);
    this.view.drop(own, "rollback");
    this.flush();
    handle?.refuse(new Refused(code, message));
    // The tab that made it reports it; of one that is gone, the leader.
    if (handle || this.#session) {
      const write = handle ?? new Handle();
      if (!handle) write.refuse(new Refused(code, message));
      this.refusedWatchers.call({ write, key: own.write.name, value: own.value, code, message });
    }
  }

  #setCovers(read: readonly string[]): void {
    this.#read = read;
    this.view.covers = (name) => isBelow(this.#patterns, name) && isBelow(read, name);
  }

  #handle(op: number): Handle | undefined {
    const own = this.view.own(op);
    return own && this.#handles.get(own.write.id);
  }

  #forget(write: Draft | undefined): void {
    if (write) this.#handles.delete(write.id);
  }

  #becomeReady(): void {
    this.isReady = true;
    this.#setReady();
  }

  #become(status: Status): void {
    if (status === this.status || this.status === "closed") return;
    this.status = status;
    if (status === "online") {
      this.flush();
      this.#becomeReady();
    }
    this.statusWatchers.call(status);
  }

  problem(problem: FieldProblem): void {
    try {
      this.#options.onError?.(problem);
    } catch (error) {
      report(error);
    }
  }

  /** Reports what has changed. A callback that writes is answered after all callbacks of the change before. */
  flush(): void {
    if (this.#depth || this.#isCalling) return;
    this.#isCalling = true;
    try {
      for (let changes = this.view.changes(); changes; changes = this.view.changes()) this.#changed(changes);
      const { pending } = this.view;
      if (pending !== this.#pending) {
        this.#pending = pending;
        this.pendingWatchers.call(pending);
      }
    } finally {
      this.#isCalling = false;
    }
  }
}

/** Whether who has this cursor has everything up to the other one. */
function isAtLeast(one: Cursor | undefined, other: Cursor): boolean {
  return one?.epoch === other.epoch && one.revision >= other.revision;
}

function defaultName(url: string, user: string | undefined, patterns: readonly string[]): string {
  const { host, pathname } = new URL(url);
  const parts = [`${host}${pathname.replace(/\/ws$/, "")}`];
  if (user !== undefined) parts.push(`user=${user}`);
  if (patterns.join() !== "*") parts.push(`patterns=${[...patterns].sort().join()}`);
  return parts.join(" ");
}

function parse({ json }: Draft): unknown {
  return json === undefined ? undefined : JSON.parse(json);
}
