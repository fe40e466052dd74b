/** The handles of writes: how far a write has got, and promises for it, made only when somebody asks. */
import type { Write, WriteState } from "./types.js";

/** A write was refused, or did not get as far as was waited for. `code` is one of docs/protocol/field-websocket.md. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** A wait took longer than it was allowed to. */
export class TimeoutError extends Error {
  override readonly name = "TimeoutError";
}

type Stage = "kept" | "acked" | "durable" | "done";

interface Waiting {
  readonly promise: Promise<unknown>;
  readonly resolve: (value?: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Handle implements Write {
  #state: WriteState = "local";
  /** How it ended. */
  #end: "durable" | "memory" | Error | undefined;
  readonly #passed = new Set<Stage>();
  readonly #waiting = new Map<Stage, Waiting>();
  /** Writes that this one took the place of: they end as it does. */
  readonly #followers: Handle[] = [];

  get state(): WriteState {
    return this.#state;
  }

  get kept(): Promise<void> {
    return this.#wait("kept") as Promise<void>;
  }

  get acked(): Promise<void> {
    return this.#wait("acked") as Promise<void>;
  }

  get durable(): Promise<void> {
    return this.#wait("durable") as Promise<void>;
  }

  then<A = "durable" | "memory", B = never>(
    fulfilled?: ((value: "durable" | "memory") => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return (this.#wait("done") as Promise<"durable" | "memory">).then(fulfilled, rejected);
  }

  /** It is in the storage; `stays`: which outlives the page. */
  keep(stays: boolean): void {
    if (this.#state !== "local" || !stays) return;
    this.#state = "kept";
    this.#pass("kept");
  }

  send(): void {
    if (this.#state === "local" || this.#state === "kept") this.#state = "sent";
  }

  ack(): void {
    if (this.#end !== undefined) return;
    if (this.#state !== "replaced") this.#state = "acked";
    // At the gateway, it outlives the page as well.
    this.#pass("kept");
    this.#pass("acked");
    for (const follower of this.#followers) follower.ack();
  }

  finish(how: "durable" | "memory"): void {
    if (this.#end !== undefined) return;
    this.ack();
    this.#end = how;
    if (how === "durable") {
      if (this.#state !== "replaced") this.#state = "durable";
      this.#pass("durable");
    } else {
      this.#fail("durable", new Refused("not-durable", "the gateway has the write in memory only"));
    }
    this.#pass("done");
    for (const follower of this.#followers) follower.finish(how);
  }

  refuse(error: Error): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    if (this.#state !== "replaced") this.#state = "refused";
    for (const stage of ["kept", "acked", "durable", "done"] as const) this.#fail(stage, error);
    for (const follower of this.#followers) follower.refuse(error);
  }

  /** A later write takes its place. */
  replace(by: Handle | undefined): void {
    if (this.#end !== undefined) return;
    this.#state = "replaced";
    if (by) by.#followers.push(this);
  }

  #wait(stage: Stage): Promise<unknown> {
    let waiting = this.#waiting.get(stage);
    if (!waiting) {
      let resolve: Waiting["resolve"] = () => {};
      let reject: Waiting["reject"] = resolve;
      const promise = new Promise<unknown>((yes, no) => ([resolve, reject] = [yes, no]));
      // A write that nobody awaits causes no unhandled rejection.
      promise.catch(() => {});
      waiting = { promise, resolve, reject };
      this.#waiting.set(stage, waiting);
      if (this.#passed.has(stage)) resolve(this.#end);
      else if (this.#end instanceof Error) reject(this.#end);
      else if (this.#end === "memory" && stage === "durable") reject(new Refused("not-durable", "the gateway has the write in memory only"));
    }
    return waiting.promise;
  }

  #pass(stage: Stage): void {
    this.#passed.add(stage);
    this.#waiting.get(stage)?.resolve(this.#end);
  }

  #fail(stage: Stage, error: Error): void {
    if (!this.#passed.has(stage)) this.#waiting.get(stage)?.reject(error);
  }
}

/** Several writes as one: it is as far as the one that is least far. */
export class Batch implements Write {
  readonly #writes: readonly Write[];

  constructor(writes: readonly Write[]) {
    this.#writes = writes;
  }

  get state(): WriteState {
    const order: WriteState[] = ["refused", "local", "kept", "sent", "acked", "durable", "replaced"];
    return order.find((state) => this.#writes.some((write) => write.state === state)) ?? "durable";
  }

  get kept(): Promise<void> {
    return this.#all((write) => write.kept);
  }

  get acked(): Promise<void> {
    return this.#all((write) => write.acked);
  }

  get durable(): Promise<void> {
    return this.#all((write) => write.durable);
  }

  then<A = "durable" | "memory", B = never>(
    fulfilled?: ((value: "durable" | "memory") => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    const ends = Promise.all(this.#writes.map((write) => Promise.resolve(write)));
    return ends.then((all): "durable" | "memory" => (all.includes("memory") ? "memory" : "durable")).then(fulfilled, rejected);
  }

  #all(promise: (write: Write) => Promise<void>): Promise<void> {
    const all = Promise.all(this.#writes.map(promise)).then(() => {});
    all.catch(() => {});
    return all;
  }
}
