/** The subscriptions of the bus, and the bounded queues that the program reads. */
import { BusError } from "./bus-errors.js";
import type { Heard, Listening, ListenOptions, Wave } from "./bus-types.js";

const BUFFER = 1024;
/** How many subscriptions the gateway allows. */
const MOST = 4;

interface Waiting {
  resolve(result: IteratorResult<Heard> | Promise<IteratorResult<Heard>>): void;
}

const END: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** One reader of a subscription. */
export class Queue implements Listening<unknown> {
  readonly ready: Promise<void>;
  #begun!: () => void;
  #failed!: (error: unknown) => void;
  #items: Heard[] = [];
  #waiting: Waiting[] = [];
  #missed = 0;
  #gap = false;
  #ended = false;
  #error: { error: unknown } | undefined;

  constructor(
    readonly most: number,
    readonly note: (missed: number) => void,
    readonly leave: () => void,
  ) {
    this.ready = new Promise((resolve, reject) => {
      this.#begun = resolve;
      this.#failed = reject;
    });
    // Those who do not look at it get the error from `next`.
    this.ready.catch(() => {});
  }

  begun(): void {
    this.#begun();
  }

  push(wave: Wave): void {
    const heard = { ...wave, missed: this.#missed, gap: this.#gap };
    this.#missed = 0;
    this.#gap = false;
    const waiting = this.#waiting.shift();
    if (waiting) return waiting.resolve({ done: false, value: heard });
    this.#items.push(heard);
    if (this.#items.length <= this.most) return;
    this.note(1);
    const [lost, next] = this.#items.splice(0, 2);
    if (!lost || !next) return;
    // Counted on the oldest one that is left, so the number stands where they are missing.
    this.#items.unshift({ ...next, missed: lost.missed + 1 + next.missed, gap: lost.gap || next.gap });
  }

  /** Waves were lost, or the connection was, before the next one. */
  lost(missed: number, gap: boolean): void {
    this.#missed += missed;
    this.#gap ||= gap;
  }

  /** Ends it; `next` has what is left, then throws the error, if any, once. */
  end(error?: { error: unknown }): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.leave();
    this.#failed(error ? error.error : new BusError("closed", "the subscription has ended"));
    for (const { resolve } of this.#waiting.splice(0)) resolve(this.next());
  }

  /** Ends it, and drops what is left. */
  abort(error?: { error: unknown }): void {
    this.#items = [];
    this.end(error);
  }

  next(): Promise<IteratorResult<Heard>> {
    const value = this.#items.shift();
    if (value) return Promise.resolve({ done: false, value });
    const error = this.#error;
    this.#error = undefined;
    if (error) return Promise.reject(error.error);
    if (this.#ended) return Promise.resolve(END);
    return new Promise((resolve) => this.#waiting.push({ resolve }));
  }

  async return(): Promise<IteratorResult<Heard>> {
    this.#error = undefined;
    this.abort();
    return END;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}

interface Subscription {
  readonly id: number;
  /** The filter as JSON, by which equal ones are found. */
  readonly key: string;
  readonly filter: object;
  readonly readers: Set<Queue>;
  /** The gateway has it, on this connection. */
  active: boolean;
  /** The gateway had it once. */
  begun: boolean;
}

export class Subscriptions {
  readonly #all = new Map<string, Subscription>();
  missed = 0;

  /** `send` sends a request if there is a connection; `resume` repeats what is missing. */
  constructor(
    readonly nextId: () => number,
    readonly send: (request: object) => void,
  ) {}

  open(filter: object, { buffer = BUFFER, signal }: ListenOptions): Queue {
    const key = JSON.stringify(filter);
    let subscription = this.#all.get(key);
    const abort = (): void => queue.abort({ error: signal?.reason });
    const leave = (): void => {
      signal?.removeEventListener("abort", abort);
      if (!subscription?.readers.delete(queue) || subscription.readers.size > 0) return;
      this.#all.delete(key);
      this.send({ op: "unsubscribe", id: subscription.id });
    };
    const queue = new Queue(buffer || 1, (missed) => (this.missed += missed), leave);
    if (signal?.aborted) {
      abort();
      return queue;
    }
    if (!subscription) {
      if (this.#all.size >= MOST) {
        queue.end({ error: new BusError("subscriptions", `${MOST} different subscriptions are allowed`) });
        return queue;
      }
      subscription = { id: this.nextId(), key, filter, readers: new Set(), active: false, begun: false };
      this.#all.set(key, subscription);
      this.#subscribe(subscription);
    }
    signal?.addEventListener("abort", abort);
    subscription.readers.add(queue);
    if (subscription.active) queue.begun();
    return queue;
  }

  #subscribe({ id, filter }: Subscription): void {
    this.send({ op: "subscribe", id, filter });
  }

  /** There is a connection. */
  resume(): void {
    for (const subscription of this.#all.values()) this.#subscribe(subscription);
  }

  /** The connection broke. */
  lost(): void {
    for (const subscription of this.#all.values()) {
      subscription.active = false;
      if (subscription.begun) for (const reader of subscription.readers) reader.lost(0, true);
    }
  }

  #of(id: unknown): Subscription | undefined {
    for (const subscription of this.#all.values()) if (subscription.id === id) return subscription;
    return undefined;
  }

  /** Takes `done` or `error`. Returns whether it was for a subscription. */
  answer({ op, id, reason, text }: Readonly<Record<string, unknown>>): boolean {
    const subscription = this.#of(id);
    if (!subscription) return false;
    if (op === "error") this.#fail(subscription, String(reason), String(text));
    else {
      subscription.active = subscription.begun = true;
      for (const reader of subscription.readers) reader.begun();
    }
    return true;
  }

  #fail(subscription: Subscription, reason: string, text: string): void {
    this.#all.delete(subscription.key);
    for (const reader of [...subscription.readers]) {
      subscription.readers.delete(reader);
      reader.end({ error: new BusError(reason, text) });
    }
  }

  waves(id: unknown, missed: number, waves: readonly Wave[]): void {
    const subscription = this.#of(id);
    if (!subscription) return;
    this.missed += missed;
    for (const reader of [...subscription.readers]) {
      if (missed) reader.lost(missed, false);
      for (const wave of waves) reader.push(wave);
    }
  }

  /** The gateway does not admit this client: what has not begun fails, the others wait for a `retry`. */
  denied(reason: string, text: string): void {
    for (const subscription of [...this.#all.values()]) if (!subscription.begun) this.#fail(subscription, reason, text);
  }

  /** Ends all of them. */
  close(): void {
    for (const { readers } of [...this.#all.values()]) for (const reader of [...readers]) reader.end();
  }
}
