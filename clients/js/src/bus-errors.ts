/** The errors of the bus. `instanceof` fails between two copies of the package; `name` and `reason` do not. */
import type { BusReason } from "./bus-types.js";

export class BusError extends Error {
  override readonly name: string = "BusError";
  readonly reason: BusReason;

  constructor(reason: BusReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** A question has no answer. */
export class AskError extends BusError {
  override readonly name: string = "AskError";
}
