/** The clock of a gateway, estimated from messages with its time; stepping the clock of this machine does not move it. */
import type { Environment } from "./environment.js";

interface Sample {
  readonly roundTrip: number;
  /** The time of the gateway when the monotonic clock was at 0. */
  readonly zero: number;
}

/** The number of samples from which the one with the smallest round trip is taken. */
const SAMPLES = 8;
/** A greater difference between both clocks of this machine means that it has slept, or that a clock was set. */
const SLEPT_MS = 1_000;

export class GatewayClock {
  readonly #of: Environment;
  #samples: Sample[] = [];
  /** The time when the monotonic clock was at 0, before there are samples and after sleep. */
  #zero: number;
  /** Wall clock minus monotonic clock, when they were compared last. */
  #difference: number;

  /** `skew`: the gateway's clock minus the wall clock of this machine, as it was in an earlier session. */
  constructor(of: Environment, skew = 0) {
    this.#of = of;
    this.#difference = of.wall() - of.monotonic();
    this.#zero = this.#difference + skew;
  }

  /** Milliseconds since 1970. */
  now(): number {
    return this.#of.monotonic() + this.#zero;
  }

  get skew(): number {
    return this.now() - this.#of.wall();
  }

  set skew(skew: number) {
    if (!this.#samples.length) this.#zero = this.#difference + skew;
  }

  /** The gateway said `time`, in answer to a message that was sent at `sent` of the monotonic clock. */
  sample(sent: number, time: number): void {
    const received = this.#of.monotonic();
    this.#samples.push({ roundTrip: received - sent, zero: time - (sent + received) / 2 });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    this.#zero = this.#samples.reduce((best, next) => (next.roundTrip <= best.roundTrip ? next : best)).zero;
  }

  /** Forgets the samples: they are of another gateway, or the monotonic clock stood still meanwhile. */
  forget(): void {
    this.#samples = [];
  }

  /** Whether this machine has slept, or its clock was set, since the last call. */
  slept(): boolean {
    const difference = this.#of.wall() - this.#of.monotonic();
    const slept = Math.abs(difference - this.#difference) > SLEPT_MS;
    if (slept) {
      this.#difference = difference;
      this.forget();
    }
    return slept;
  }
}
