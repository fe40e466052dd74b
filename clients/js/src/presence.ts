/** Presence: announces this client at a bounded rate and again and again, and shows the others. */
import type { Environment } from "./environment.js";
import type { Json, Off } from "./types.js";

/** At most 20 announcements a second; the newest wins. */
const PACE_MS = 50;
/** The gateway forgets a participant after 10 s. */
const REPEAT_MS = 3_000;

export class PresenceSender {
  readonly #of: Environment;
  readonly #send: (message: object) => void;
  #message: object | undefined;
  #isConnected = false;
  #sentAt = -Infinity;
  #off: Off | undefined;

  constructor(of: Environment, send: (message: object) => void) {
    this.#of = of;
    this.#send = send;
  }

  set(value: Json, room?: string): void {
    const had = this.#message !== undefined;
    this.#message = value === null ? undefined : { type: "presence", value, patterns: room === undefined ? undefined : [room] };
    if (!this.#isConnected) return;
    if (this.#message) {
      const wait = this.#sentAt + PACE_MS - this.#of.monotonic();
      this.#in(Math.max(0, wait));
    } else if (had) {
      this.#off?.();
      this.#send({ type: "presence", value: null });
    }
  }

  /** Connected: announces what is set. */
  start(): void {
    this.#isConnected = true;
    if (this.#message) this.#in(0);
  }

  stop(): void {
    this.#isConnected = false;
    this.#off?.();
  }

  #in(ms: number): void {
    this.#off?.();
    if (ms > 0) this.#off = this.#of.after(ms, () => this.#now());
    else this.#now();
  }

  #now(): void {
    if (!this.#message) return;
    this.#sentAt = this.#of.monotonic();
    this.#send(this.#message);
    this.#in(REPEAT_MS);
  }
}
