/** The entry of the package: fields and the bus. */
export type * from "./types.js";
