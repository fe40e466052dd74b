/** The entry of the package: fields and the bus. */
export type * from "./types.js";
export { bus } from "./bus.js";
export { AskError, BusError } from "./bus-errors.js";
export type * from "./bus-types.js";
export { connect } from "./field.js";
export { Refused, TimeoutError } from "./writes.js";
