/** What the tab with the connection tells itself and the other tabs; each makes the same view of it. */
import type { Cursor, Entry, Kept, Sums } from "./records.js";
import type { Json, Status, Superseded } from "./types.js";

export type FieldEvent =
  | { readonly type: "entries"; readonly entries: readonly Entry[]; readonly cursor: Cursor | undefined }
  | {
      readonly type: "part";
      readonly entries: readonly Entry[];
      readonly first: boolean;
      readonly done: boolean;
      readonly patterns: readonly string[] | undefined;
      readonly cursor: Cursor | undefined;
    }
  /** The connection is gone, and the rest of a snapshot with it. */
  | { readonly type: "lost" }
  | { readonly type: "kept"; readonly writes: readonly Kept[] }
  | { readonly type: "replaced"; readonly op: number; readonly by: number }
  | { readonly type: "sent"; readonly ops: readonly number[] }
  | { readonly type: "acked"; readonly op: number; readonly version: string; readonly isNew: boolean; readonly counted: Sums | undefined }
  | { readonly type: "done"; readonly op: number; readonly how: "durable" | "memory" }
  | { readonly type: "refused"; readonly op: number; readonly code: string; readonly message: string }
  | { readonly type: "superseded"; readonly superseded: Superseded }
  | { readonly type: "status"; readonly status: Status }
  /** The clock of the gateway minus the clock of this machine. */
  | { readonly type: "clock"; readonly skew: number }
  /** The gateway has greeted; `id` is the one of this client as a participant. */
  | { readonly type: "greeted"; readonly id: string; readonly read: readonly string[]; readonly limits: Limits }
  /** No participants are known any more. */
  | { readonly type: "alone" }
  /** A participant; without a value, it has left. */
  | ({ readonly type: "presence"; readonly id: string } & Participant);

export interface Participant {
  readonly value: Json | undefined;
  /** The names that it concerns. */
  readonly patterns: readonly string[];
}

/** The bounds of names and values. */
export interface Limits {
  readonly key: number;
  readonly value: number;
}
