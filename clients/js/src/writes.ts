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
  /** Resolves or rejects it with the outcome of the stage. */
  readonly settle: () => void;
}

export class Handle implements Write {
  #state: WriteState = "local";
  #end: "durable" | "memory" | undefined;
  /** The stages that it has passed, and those that it will not: with the reason. */
  readonly #settled = new Map<Stage, Error | undefined>();
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

  /** It is in a storage that outlives the page. */
  keep(): void {
    if (this.#state !== "local") return;
    this.#state = "kept";
    this.#settle("kept");
  }

  send(): void {
    if (this.#state === "local" || this.#state === "kept") this.#state = "sent";
  }

  ack(): void {
    if (this.#hasEnded) return;
    this.#become("acked");
    // At the gateway, it outlives the page as well.
    this.#settle("kept");
    this.#settle("acked");
    for (const follower of this.#followers) follower.ack();
  }

  finish(how: "durable" | "memory"): void {
    if (this.#hasEnded) return;
    this.ack();
    this.#end = how;
    if (how === "durable") this.#become(how);
    this.#settle("durable", how === "durable" ? undefined : new Refused("not-durable", "the gateway has it in memory only"));
    this.#settle("done");
    for (const follower of this.#followers) follower.finish(how);
  }

  refuse(error: Error): void {
    if (this.#hasEnded) return;
    this.#become("refused");
    for (const stage of ["kept", "acked", "durable", "done"] as const) this.#settle(stage, error);
    for (const follower of this.#followers) follower.refuse(error);
  }

  /** A later write takes its place. */
  replace(by: Handle): void {
    if (this.#hasEnded) return;
    this.#state = "replaced";
    by.#followers.push(this);
  }

  get #hasEnded(): boolean {
    return this.#settled.has("done");
  }

  #become(state: WriteState): void {
    if (this.#state !== "replaced") this.#state = state;
  }

  #wait(stage: Stage): Promise<unknown> {
    let waiting = this.#waiting.get(stage);
    if (!waiting) {
      let settle = (): void => {};
      const promise = new Promise<unknown>((resolve, reject) => {
        settle = () => {
          const error = this.#settled.get(stage);
          if (error) reject(error);
          else resolve(this.#end);
        };
      });
      // A write that nobody awaits causes no unhandled rejection.
      promise.catch(() => {});
      waiting = { promise, settle };
      this.#waiting.set(stage, waiting);
      if (this.#settled.has(stage)) settle();
    }
    return waiting.promise;
  }

  #settle(stage: Stage, error?: Error): void {
    if (this.#settled.has(stage)) return;
    this.#settled.set(stage, error);
    this.#waiting.get(stage)?.settle();
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
