/** Presence: announces the participants of this client at a bounded rate and again and again. */
import type { Environment } from "./environment.js";
import type { Json, Off } from "./types.js";

/** At most 20 announcements of a participant in a second; the newest wins. */
const PACE_MS = 50;
/** The gateway forgets a participant after 10 s. */
const REPEAT_MS = 3_000;

interface Announced {
  message: object;
  sentAt: number;
  off: Off | undefined;
}

export class PresenceSender {
  readonly #of: Environment;
  readonly #send: (message: object) => void;
  readonly #announced = new Map<string, Announced>();
  #isConnected = false;

  constructor(of: Environment, send: (message: object) => void) {
    this.#of = of;
    this.#send = send;
  }

  /** `as` names the participant; `null` takes it back. */
  set(as: string, value: Json, room: string | undefined): void {
    const announced = this.#announced.get(as) ?? { message: {}, sentAt: -Infinity, off: undefined };
    announced.off?.();
    announced.message = { type: "presence", as: as || undefined, value, patterns: room === undefined ? undefined : [room] };
    if (value !== null) {
      this.#announced.set(as, announced);
      if (this.#isConnected) this.#in(announced, announced.sentAt + PACE_MS - this.#of.monotonic());
    } else if (this.#announced.delete(as) && this.#isConnected) {
      this.#send(announced.message);
    }
  }

  /** Connected: announces what is set. */
  start(): void {
    this.#isConnected = true;
    for (const announced of this.#announced.values()) this.#in(announced, 0);
  }

  stop(): void {
    this.#isConnected = false;
    for (const { off } of this.#announced.values()) off?.();
  }

  #in(announced: Announced, ms: number): void {
    announced.off?.();
    const now = (): void => {
      announced.sentAt = this.#of.monotonic();
      this.#send(announced.message);
      this.#in(announced, REPEAT_MS);
    };
    if (ms > 0) announced.off = this.#of.after(ms, now);
    else now();
  }
}
