/** The protocol aether.field.v1 in the tab with the connection: messages in, events out. */
import { Connection, type ConnectionState, type Protocol } from "./connection.js";
import type { Environment } from "./environment.js";
import type { FieldEvent } from "./events.js";
import { utf8Length } from "./json.js";
import { Outbox } from "./outbox.js";
import { PresenceSender } from "./presence.js";
import { exactSums, readEntries, slotOfEntry, type Cursor, type Entry, type Kept } from "./records.js";
import type { Saver } from "./saver.js";
import type { FieldProblem, Json, Off, Options } from "./types.js";
import type { Announcement } from "./tabs.js";
import type { View } from "./view.js";

export interface SessionOwner {
  /** Applied to the view before it returns. */
  emit(event: FieldEvent): void;
  problem(problem: FieldProblem): void;
}

export interface SessionSetup {
  readonly url: string | readonly string[];
  readonly token: Options["token"];
  readonly patterns: readonly string[];
  readonly durable: boolean;
  readonly client: string;
  readonly skew: number;
}

/** The losses that are remembered, so that each is reported once. */
const MAX_REPORTED = 1024;

export class Session implements Protocol {
  readonly subprotocol = "aether.field.v1";
  readonly arrays = true;
  readonly connection: Connection;
  readonly #setup: SessionSetup;
  readonly #view: View;
  readonly #saver: Saver;
  readonly #owner: SessionOwner;
  readonly #of: Environment;
  readonly #outbox: Outbox;
  readonly #presence: PresenceSender;
  #wantsPresence = false;
  #helloAt = 0;
  /** Whether there is a subscription whose first snapshot is complete. */
  #isSynced = false;
  /** What the gateway has greeted with, on this connection. */
  #greeted: Extract<FieldEvent, { type: "greeted" }> | undefined;
  readonly #held = new Set<Off>();
  /** Writes that were confirmed before the first snapshot was complete. */
  readonly #early = new Map<number, "durable" | "memory">();
  readonly #reported = new Set<string>();
  #maxMessage = 65_536;

  constructor(setup: SessionSetup, view: View, saver: Saver, owner: SessionOwner, of: Environment) {
    this.#setup = setup;
    this.#view = view;
    this.#saver = saver;
    this.#owner = owner;
    this.#of = of;
    this.#outbox = new Outbox(
      {
        replaced: (old, by) => {
          saver.remove(old.op);
          owner.emit({ type: "replaced", op: old.op, by: by.op });
        },
        changed: (write) => saver.put(write),
      },
      setup.durable,
    );
    this.connection = new Connection(setup.url, setup.token, this, of);
    this.connection.clock.skew = setup.skew;
    this.#presence = new PresenceSender(of, (message) => {
      if (this.#greeted) this.connection.send(message);
    });
  }

  start(): void {
    this.connection.start();
  }

  close(): void {
    this.#presence.stop();
    this.connection.close();
  }

  /** Takes writes that are kept. */
  add(writes: readonly Kept[], mayHaveBeenSent = false): void {
    for (const write of writes) this.#outbox.add(write, mayHaveBeenSent);
    this.connection.wake();
  }

  announce({ as, value, room }: Announcement): void {
    this.#presence.set(as, value, room);
  }

  /** Somebody looks at participants. */
  watchPresence(): void {
    if (this.#wantsPresence) return;
    this.#wantsPresence = true;
    if (this.#greeted) this.#subscribe();
  }

  // What the connection calls.

  opened(token: string | undefined): void {
    this.#helloAt = this.#of.monotonic();
    this.connection.send({ type: "hello", client: this.#setup.client, token });
  }

  ping(id: number): object {
    return { type: "ping", id };
  }

  next(most: number): string[] {
    const sent: number[] = [];
    let requests = this.#outbox.next(most, (op) => sent.push(op));
    const tooLong = requests.findIndex((text) => text.length * 3 > this.#maxMessage && utf8Length(text) > this.#maxMessage);
    if (tooLong >= 0) {
      const op = sent[tooLong];
      requests = requests.filter((_, at) => at !== tooLong);
      if (op !== undefined) this.#refuse(op, "message-size", `the write is longer than ${this.#maxMessage} bytes`);
    }
    if (sent.length) this.#owner.emit({ type: "sent", ops: sent });
    return requests;
  }

  lost(): void {
    this.#greeted = undefined;
    this.#isSynced = false;
    for (const off of this.#held) off();
    this.#held.clear();
    this.#early.clear();
    this.#presence.stop();
    this.#owner.emit({ type: "lost" });
  }

  state(state: ConnectionState): void {
    if (state === "open") this.#owner.emit({ type: "status", status: "connecting" });
    else this.#owner.emit({ type: "status", status: state });
  }

  problem(problem: FieldProblem): void {
    this.#owner.problem(problem);
  }

  message(message: Record<string, unknown>, text: string): void {
    const { op } = message;
    switch (message.type) {
      case "hello":
        return this.#hello(message);
      case "pong":
        this.connection.pong(whole(message.id), finite(message.time));
        return this.#clock();
      case "token":
        return this.#rights(texts(message.read));
      case "subscribed":
        if (message.resumed === true) this.#synced();
        return undefined;
      case "snapshot":
        return this.#snapshot(message, text);
      case "changes":
        return this.#changes(readEntries(message.entries, exactSums(message, text)), cursorOf(message));
      case "cursor":
        return this.#changes([], cursorOf(message));
      case "ack":
        return this.#ack(whole(op), text_(message.version));
      case "durable":
        return this.#done(whole(op), "durable");
      case "not-durable":
        return this.#done(whole(op), "memory");
      case "refused":
        return this.#refused(message);
      case "superseded":
        return this.#superseded(message);
      case "presence":
      case "presence-leave": {
        const value = message.type === "presence" ? (message.value as Json | undefined) : undefined;
        const patterns = message.patterns === undefined ? ["*"] : texts(message.patterns);
        return this.#owner.emit({ type: "presence", id: text_(message.id), value, patterns });
      }
      default:
        // Of a later version.
        return undefined;
    }
  }

  #hello(message: Record<string, unknown>): void {
    const read = texts(message.read);
    const limits = (message.limits ?? {}) as Record<string, unknown>;
    const rate = {
      messagesPerSecond: positive(limits.messages_per_second, 100),
      messagesBurst: positive(limits.messages_burst, 200),
      maxMessageBytes: positive(limits.max_message_bytes, 65_536),
      requestsPerMessage: positive(limits.requests_per_message, 1),
    };
    this.#maxMessage = rate.maxMessageBytes;
    const key = positive(limits.max_key_bytes, 256);
    const value = positive(limits.max_value_bytes, 32_768);
    this.#greeted = { type: "greeted", id: text_(message.id), read, limits: { key, value } };
    this.#owner.emit(this.#greeted);
    this.#owner.emit({ type: "alone" });
    this.#subscribe();
    this.#outbox.restart();
    this.connection.greeted(rate, finite(message.time), this.#helloAt);
    this.#clock();
    this.#presence.start();
  }

  /** The token has other rights now. A snapshot of everything also drops what may not be read any more. */
  #rights(read: readonly string[]): void {
    if (!this.#greeted) return;
    this.#owner.emit((this.#greeted = { ...this.#greeted, read }));
    this.#view.cursor = undefined;
    this.#subscribe();
    // The gateway has forgotten this participant.
    this.#presence.start();
  }

  #clock(): void {
    const { skew } = this.connection.clock;
    this.#owner.emit({ type: "clock", skew });
    this.#saver.meta({ skew });
  }

  #subscribe(): void {
    const { cursor } = this.#view;
    this.connection.send({ type: "subscribe", patterns: this.#setup.patterns, presence: this.#wantsPresence, ...cursor });
  }

  #synced(): void {
    this.#isSynced = true;
    const early = [...this.#early];
    this.#early.clear();
    for (const [op, how] of early) this.#done(op, how);
    this.#owner.emit({ type: "status", status: "online" });
  }

  #snapshot(message: Record<string, unknown>, text: string): void {
    const entries = readEntries(message.entries, exactSums(message, text));
    const done = message.done === true;
    const patterns = message.patterns === undefined ? undefined : texts(message.patterns);
    const cursor = done ? cursorOf(message) : undefined;
    this.#owner.emit({ type: "part", entries, first: message.first === true, done, patterns, cursor });
    if (!done) return;
    this.#outbox.snapshot();
    this.#saver.all();
    this.#synced();
  }

  #changes(entries: readonly Entry[], cursor?: Cursor): void {
    this.#owner.emit({ type: "entries", entries, cursor });
    this.#saver.entries(entries.map(slotOfEntry));
  }

  #ack(op: number, version: string): void {
    const acked = this.#outbox.acked(op, version);
    if (!acked) return;
    const { kind, up = 0n, down = 0n } = acked.write;
    const own = this.#view.own(op);
    this.#owner.emit({ type: "acked", op, version, isNew: acked.isNew, counted: kind === "count" ? { up, down } : undefined });
    if (own && this.#view.covers(acked.write.name)) this.#saver.entries([own.slot]);
    if (!this.#setup.durable) this.#done(op, "memory");
    this.connection.wake();
  }

  #done(op: number, how: "durable" | "memory"): void {
    if (!this.#isSynced && this.#outbox.isOld(op)) {
      // Only the snapshot tells what stands; until then the own value stays on top.
      this.#early.set(op, how);
      return;
    }
    if (!this.#outbox.done(op)) return;
    this.#owner.emit({ type: "done", op, how });
    this.#saver.remove(op);
  }

  #refused(message: Record<string, unknown>): void {
    const code = text_(message.code);
    const reason = typeof message.message === "string" ? message.message : code;
    if (message.op === undefined) {
      // The token may read nothing, so there is nothing to wait for.
      if (code === "right" && !this.#isSynced) this.#synced();
      this.problem({ code: code === "right" ? "denied" : "protocol", message: `the gateway refused a request: ${reason} (${code})` });
      return;
    }
    const op = whole(message.op);
    const after = finite(message.retry_after_ms);
    if (after !== undefined) {
      this.#outbox.hold(op);
      const off = this.#of.after(after, () => {
        this.#held.delete(off);
        this.#outbox.again(op);
        this.connection.wake();
      });
      this.#held.add(off);
    } else if (code === "time-ahead" && this.#outbox.restamp(op, Math.round(this.connection.clock.now() * 1000) / 1000)) {
      // The clock was wrong when it was made, and nobody has seen it.
      this.connection.wake();
    } else {
      this.#refuse(op, code, reason);
    }
  }

  #refuse(op: number, code: string, message: string): void {
    const write = this.#outbox.refused(op);
    if (!write) return;
    this.#saver.remove(op);
    if (write.amount !== undefined) this.#saver.uncount(write.name, write.amount);
    this.#owner.emit({ type: "refused", op, code, message });
    this.connection.wake();
  }

  #superseded(message: Record<string, unknown>): void {
    const { key, set, member, lost, value } = message;
    const name = text_(key ?? set);
    // It comes again when the write is sent again.
    const id = `${name} ${text_(message.version)}`;
    if (this.#reported.has(id)) return;
    const [oldest] = this.#reported;
    if (oldest !== undefined && this.#reported.size >= MAX_REPORTED) this.#reported.delete(oldest);
    this.#reported.add(id);
    const version = message.by;
    const entries = readEntries([key === undefined ? { set, member, present: true, version } : { key, value, version }]);
    if (version !== undefined && this.#view.covers(name)) this.#changes(entries);
    this.#owner.emit({ type: "superseded", superseded: key === undefined ? { key: name, lost: undefined, value: member } : { key: name, lost, value } });
  }
}

function cursorOf({ epoch, revision }: Record<string, unknown>): Cursor {
  return { epoch: text_(epoch), revision: whole(revision) };
}

function text_(value: unknown): string {
  if (typeof value !== "string") throw new TypeError("a text is missing");
  return value;
}

function texts(value: unknown): string[] {
  if (!Array.isArray(value)) throw new TypeError("a list is missing");
  return value.map(text_);
}

function whole(value: unknown): number {
  if (!Number.isSafeInteger(value)) throw new TypeError("a whole number is missing");
  return value as number;
}

function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function positive(value: unknown, otherwise: number): number {
  return typeof value === "number" && value > 0 ? value : otherwise;
}
