// Knows whether the data of a field are there, and which keys have writes under way.
import type { Field, Write } from "../types.js";
import { shared } from "./shared.js";

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

export function loadingOf(field: Field): Loading {
  const known = shared.loading.get(field);
  if (known) return known;
  const finish = (): void => {
    loading.done = true;
  };
  const loading: Loading = { done: false, ready: field.ready().then(finish, finish), writes: new Map(), listeners: new Set() };
  shared.loading.set(field, loading);
  return loading;
}
