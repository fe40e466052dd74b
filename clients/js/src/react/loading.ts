// Knows whether the data of a field are there, and which keys have writes under way.
import type { Field } from "../types.js";
import { shared, type Loading } from "./shared.js";

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
