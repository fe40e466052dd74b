/** Waves and questions on their way to the gateway: a bounded queue, and a window of those that it has not answered. */
import { AskError, BusError } from "./bus-errors.js";
import type { BusReason } from "./bus-types.js";
import type { Environment } from "./environment.js";
import { utf8Length } from "./json.js";
import type { Off } from "./types.js";

/**
 * How many may be with the gateway at once. It stops reading a client of which 16 run, so that not even a sign of life would be
 * answered.
 */
const WINDOW = 15;
/** How long the gateway may take in addition to the patience of a question before the client gives up, in milliseconds. */
const GRACE_MS = 2_000;

type Op = "emit" | "ask";
type Message = Readonly<Record<string, unknown>>;

export interface Outgoing {
  readonly op: Op;
  /** The wave as JSON. */
  readonly wave: string;
  /** In milliseconds; 0 for none. */
  readonly patience: number;
  readonly signal: AbortSignal | undefined;
}

interface Request extends Outgoing {
  readonly id: number;
  /** When the asker gives up, by the monotonic clock. */
  readonly until: number;
  sent: boolean;
  /** The gateway has said that it has this one, and no room yet. */
  waiting: boolean;
  /** It may be the one that the gateway could not read. */
  suspect: boolean;
  resolve(answer: Message): void;
  reject(error: unknown): void;
}

export class Requests {
  #queue: Request[] = [];
  readonly #running = new Map<number, Request>();
  /** The longest message that the gateway reads, in bytes. */
  maxBytes = Infinity;
  refused = 0;

  /** `wake` is called when there may be something to send. */
  constructor(
    readonly most: number,
    readonly of: Environment,
    readonly nextId: () => number,
    readonly wake: () => void,
  ) {}

  /** Resolves with the answer of the gateway. */
  add(outgoing: Outgoing): Promise<Message> {
    const { signal, op, patience } = outgoing;
    return new Promise((resolve, reject) => {
      let offTimer: Off | undefined;
      const settled = (): void => {
        offTimer?.();
        signal?.removeEventListener("abort", abort);
        request.resolve = request.reject = () => {};
      };
      const request: Request = {
        ...outgoing,
        id: this.nextId(),
        until: this.of.monotonic() + patience,
        sent: false,
        waiting: false,
        suspect: false,
        resolve(answer) {
          settled();
          resolve(answer);
        },
        reject: (error) => {
          settled();
          this.refused += 1;
          reject(error);
        },
      };
      // One that was sent stays in the window: the gateway still has it.
      const giveUp = (reason: unknown): void => {
        this.#queue = this.#queue.filter((other) => other !== request);
        request.reject(reason);
      };
      const abort = (): void => giveUp(signal?.reason);
      const late = (): void => giveUp(failure(op, "patience", `no answer within ${patience} ms`));
      if (signal?.aborted) return abort();
      if (this.#queue.length >= this.most) {
        return request.reject(failure(op, "queue", `${this.most} waves wait already`));
      }
      signal?.addEventListener("abort", abort);
      if (patience) {
        // What the gateway says is more exact, so it gets the time to say it.
        offTimer = this.of.after(patience, () => {
          if (request.sent) offTimer = this.of.after(GRACE_MS, late);
          else late();
        });
      }
      this.#queue.push(request);
      this.wake();
    });
  }

  /** Takes at most `most` requests out of the queue, which are sent now. */
  next(most: number): string[] {
    const texts: string[] = [];
    while (texts.length < most && this.#running.size < WINDOW) {
      const request = this.#queue.shift();
      if (!request) break;
      const { op, id, wave, patience, until } = request;
      const left = patience && `,"patience_ms":${Math.max(1, Math.round(until - this.of.monotonic()))}`;
      const text = `{"op":"${op}","id":${id}${left || ""},"wave":${wave}}`;
      const bytes = utf8Length(text);
      if (bytes > this.maxBytes) {
        request.reject(failure(op, "message_size", `the message has ${bytes} bytes; ${this.maxBytes} are allowed`));
        continue;
      }
      request.sent = true;
      this.#running.set(id, request);
      texts.push(text);
    }
    return texts;
  }

  /** Takes an answer of the gateway. Returns whether it was for a request. */
  answer(message: Message): boolean {
    const id = message.id as number;
    const request = this.#running.get(id);
    if (!request) return false;
    if (message.op === "waiting") {
      request.waiting = true;
      return true;
    }
    this.#running.delete(id);
    if (message.op === "error") request.reject(failure(request.op, String(message.reason), String(message.text)));
    else request.resolve(message);
    this.wake();
    return true;
  }

  /** The gateway could not read one of its messages, and cannot say which. */
  suspect(): void {
    for (const request of this.#running.values()) request.suspect = request.op === "emit" && !request.waiting;
  }

  /** It has answered a later message since. It answers in the order in which it reads, so this concerns suspects without an answer. */
  unread(reason: string, text: string): void {
    for (const [id, { suspect, waiting }] of this.#running) if (suspect && !waiting) this.answer({ op: "error", id, reason, text });
  }

  /** The connection broke: nobody knows what became of what was sent. The queue stays. */
  lost(): void {
    const running = [...this.#running.values()];
    this.#running.clear();
    for (const request of running) {
      request.reject(failure(request.op, "unknown", "the connection broke: it may have arrived"));
    }
  }

  /** Rejects all that waits to be sent. */
  fail(reason: BusReason, text: string): void {
    for (const request of this.#queue.splice(0)) request.reject(failure(request.op, reason, text));
  }
}

export function failure(op: Op, reason: BusReason, text: string): BusError {
  return new (op === "ask" ? AskError : BusError)(reason, text);
}
