// What all copies of this package in one page share, such as ESM and CJS.
import type { Bus } from "../bus-types.js";
import { createContext, type Context } from "./imports.js";
import type { Field } from "../types.js";
import type { Lease } from "./lease.js";
import type { Loading } from "./loading.js";
import type { Scope } from "./scope.js";

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
