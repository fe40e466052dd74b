// What all copies of this package in one page share, such as ESM and CJS.
import type { Bus } from "../bus-types.js";
import { createContext, type Context } from "./imports.js";
import type { Readable } from "../still.js";
import type { Field, Write } from "../types.js";

export interface Client {
  close(): Promise<void>;
}

/** A client that is open while a provider uses it. */
export interface Lease {
  readonly client: Client;
  users: number;
  timer?: ReturnType<typeof setTimeout>;
}

/** What all components of one field share. */
export interface Loading {
  /** Whether data are there, or cannot come any more. It stays so. */
  done: boolean;
  readonly ready: Promise<void>;
  /** The unconfirmed writes that hooks have made, and their keys. */
  readonly writes: Map<Write, string>;
  /** Called when `writes` has changed. */
  readonly listeners: Set<() => void>;
}

/** What the components below one provider share. */
export interface Scope {
  readonly field: Field;
  /** What the server has rendered. */
  readonly server: Readable;
  /** What is shown: the field, over what the server has rendered until data are there. */
  readonly shown: Readable;
  /** The same as text; `undefined` if the server had no data. */
  readonly initial: string | undefined;
}

type Contexts = readonly [Context<Scope | undefined>, Context<Bus | undefined>];

interface Shared {
  /** Those of each copy of React. */
  readonly contexts: WeakMap<object, Contexts>;
  readonly leases: Map<string, Lease>;
  readonly loading: WeakMap<Field, Loading>;
}

export const shared: Shared = ((globalThis as unknown as Record<symbol, Shared | undefined>)[Symbol.for("aether-client@1/react")] ??= {
  contexts: new WeakMap(),
  leases: new Map(),
  loading: new WeakMap(),
});

const contexts: Contexts = shared.contexts.get(createContext) ?? [createContext<Scope | undefined>(undefined), createContext<Bus | undefined>(undefined)];
shared.contexts.set(createContext, contexts);
export const [FieldContext, BusContext] = contexts;
