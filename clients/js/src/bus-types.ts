/** The public types of the bus. */
import type { FieldProblem, Off, Status } from "./types.js";

/** The kind of a wave: something that happened, an order, a question, an answer, or a message to everybody. */
export type Kind = "event" | "command" | "query" | "response" | "broadcast";

/** A wave of the bus, with its payload: JSON, a text, bytes, or `undefined` if it is empty. */
export interface Wave<P = unknown> {
  /** Such as `shop@1f9a3c5b7d2e4f60/17`. */
  readonly id: string;
  readonly channel: string;
  readonly kind: Kind;
  /** How important it was when it was emitted: above 0, at most 1. */
  readonly amplitude: number;
  /** The name of its emitter. */
  readonly source: string;
  /** The instance of its emitter, as hexadecimal digits. */
  readonly instance: string;
  /** When it was emitted, in milliseconds since 1970, by the clock of the gateway. */
  readonly emittedAt: number;
  /** Its age in milliseconds when the gateway sent it. */
  readonly age: number;
  readonly hops: number;
  /** In milliseconds; `undefined` if the amplitude does not fall. */
  readonly halfLife: number | undefined;
  /** In radians: 0 asserts, pi retracts. */
  readonly phase: number;
  readonly key: string | undefined;
  /** The id of the wave that caused it. */
  readonly cause: string | undefined;
  /** The id of the first wave of the request that it belongs to. */
  readonly root: string;
  /** Its `traceparent` (W3C Trace Context). */
  readonly trace: string | undefined;
  readonly contentType: string;
  /** The size of the whole payload in bytes. */
  readonly bytes: number;
  /** JSON wherever the payload is valid JSON, whatever its content type. */
  readonly payload: P;
  /** Whether `payload` is only the beginning: the gateway cuts payloads of more than 8 KiB, except in answers. */
  readonly cut: boolean;
  /** An object without a prototype. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** A wave of a subscription, with what was lost before it. */
export interface Heard<P = unknown> extends Wave<P> {
  /**
   * How many waves of the subscription were lost between the item before and this one: by `perSecond`, because the gateway
   * had too many for this client, or because the program was too slow (`buffer`).
   */
  readonly missed: number;
  /** Whether the connection broke in between. Nobody counts the waves of that time. */
  readonly gap: boolean;
}

/** Of which waves a subscription consists. */
export interface ListenOptions {
  /** Only waves of at least this amplitude, as it is when the gateway gets them. */
  minAmplitude?: number | undefined;
  /** Only these kinds. Default: all. */
  kinds?: readonly Kind[] | undefined;
  /** Only waves of the emitters of this name. */
  source?: string | undefined;
  /** At most so many a second; the others count as missed. */
  perSecond?: number | undefined;
  /** How many waves wait for the program; at least one; beyond it the oldest are lost, and count as missed. Default: 1024. */
  buffer?: number | undefined;
  /** Ends the subscription: the iterator throws the reason of the signal. */
  signal?: AbortSignal | undefined;
}

/**
 * The waves of a subscription. It begins with the call of `listen`, not with the first `next`, and ends with the loop that
 * reads it (`break`, `return` or an error in it). It outlives connections; `gap` tells.
 *
 * `next` may be left waiting without a loss: a wave goes to the first `next` that waits for one, or else into the buffer.
 */
export interface Listening<P = unknown> extends AsyncIterableIterator<Heard<P>> {
  /** The gateway has the subscription: later waves are heard. Rejects with a {@link BusError} if it refuses. */
  readonly ready: Promise<void>;
  return(): Promise<IteratorResult<Heard<P>>>;
  [Symbol.asyncIterator](): Listening<P>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The properties of a wave beside its channel and payload. */
export interface WaveOptions {
  /** How important it is: above 0, at most 1. Default: 0.5. */
  amplitude?: number | undefined;
  /** Default: `"event"`, and `"query"` for a question. */
  kind?: Kind | undefined;
  /** The coherence key: what the wave is about, such as an order number. */
  key?: string | undefined;
  /** In milliseconds. Default: 8192 for events and broadcasts, otherwise the amplitude does not fall. */
  halfLife?: number | undefined;
  /** Asserts or retracts, or an angle in radians. Default: `"assert"`. */
  phase?: "assert" | "retract" | number | undefined;
  /** The wave that caused this one, or its id. */
  cause?: string | { readonly id: string } | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
  /** The media type of the payload. A payload that is a string then is this text; without it, it is a string of JSON. */
  contentType?: string | undefined;
  /** The trace that the wave belongs to (W3C Trace Context); the same as in `metadata`. */
  traceparent?: string | undefined;
}

export interface EmitOptions extends WaveOptions {
  /** Gives up: a wave that waits to be sent is never sent. One that was sent may still arrive. */
  signal?: AbortSignal | undefined;
}

export interface AskOptions extends WaveOptions {
  /** How long to wait for the answer, in milliseconds, the time without a connection included. Default: 5000; at most 60000. */
  patience?: number | undefined;
  /** Gives up: a question that waits to be sent is never sent. One that was sent may still be answered, for nobody. */
  signal?: AbortSignal | undefined;
}

/** The gateway has the wave. */
export interface Emitted {
  readonly id: string;
  /** The number of inboxes that the wave went to; `null` if the medium cannot know it. */
  readonly receivers: number | null;
  /** Whether it had to wait for room. */
  readonly waited: boolean;
}

/**
 * Why something failed: a reason of the gateway (`wave`, `filter`, `right`, `token`, `no_token`, `origin`, `emit`, `ask`,
 * `json`, `message_size`, `subscriptions`, ...), or one of the client:
 * - `unknown`: the connection broke after the wave was sent and before the gateway answered. It may have arrived or not; the
 *   client never sends it again by itself.
 * - `queue`: too many waves wait to be sent.
 * - `patience`: no answer came in time.
 * - `protocol`: the answer makes no sense.
 * - `closed`: by `close`.
 */
export type BusReason = "unknown" | "queue" | "patience" | "protocol" | "closed" | (string & {});

/** Numbers since the bus was made. */
export interface BusCounts {
  /** Waves that the gateway has. */
  readonly emitted: number;
  /** Waves and questions that failed. */
  readonly refused: number;
  /** Waves of all subscriptions that were lost, as far as they are counted. */
  readonly missed: number;
}

export interface BusOptions {
  /** The token, or a function that gets one. The function is asked again after the gateway refused the last token. */
  token?: string | (() => string | Promise<string>) | undefined;
  /** How many waves and questions wait while there is no connection, or no room. Default: 1024. */
  queue?: number | undefined;
  /** For Node before 22: a class like the WebSocket of browsers. */
  WebSocket?: unknown;
  onError?: ((problem: FieldProblem) => void) | undefined;
}

/** A connection to the bus. Several pages and programs may have one each; none is shared. */
export interface Bus {
  /** `online`: the gateway takes waves. `denied`: it wants a token, or refused the one that it got. */
  readonly status: Status;
  /** Whether the gateway wants a token; `undefined` before the first connection. */
  readonly needsToken: boolean | undefined;
  readonly counts: BusCounts;

  /**
   * Emits a wave. It waits for a connection, within the bounds of `queue`, and resolves when the gateway has it.
   *
   * Cancel safety: see `signal`. A promise that nobody awaits does not cancel anything.
   *
   * @param payload JSON, bytes, a text if `contentType` is given, or `undefined` for none.
   * @throws TypeError if something is not what a wave can hold.
   * @throws BusError with a reason. After `unknown` the wave may have been emitted; it is not sent again.
   */
  emit(channel: string, payload?: unknown, options?: EmitOptions): Promise<Emitted>;

  /**
   * Subscribes to the waves of a pattern, such as `orders.*` or `orders.>`. At most four different subscriptions run at a time;
   * several with the same pattern and filter share one.
   *
   * @throws TypeError for options of wrong types. The iterator throws a BusError if the gateway refuses.
   */
  listen<P = unknown>(pattern: string, options?: ListenOptions): Listening<P>;

  /**
   * Asks a question, and resolves with the first answer, whole.
   *
   * @throws TypeError if something is not what a wave can hold.
   * @throws AskError with a reason: `ask` if nobody listens, answers in time, or can (the message says which), `patience` if
   * the gateway did not even say that, `unknown` if the connection broke. After both it may have been answered.
   */
  ask<P = unknown>(channel: string, payload?: unknown, options?: AskOptions): Promise<Wave<P>>;

  onStatus(callback: (status: Status) => void): Off;
  /** Connects now, also after `denied`. */
  retry(): void;
  /** Ends the bus: what waits rejects with `closed`, and iterators end. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
