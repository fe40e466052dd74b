// Reads a field within React: the same snapshot until something changes, and what the server rendered while the page hydrates.
import { useEffect, useMemo, useRef, useSyncExternalStore } from "./imports.js";
import type { Readable } from "../still.js";
import type { Field, Off } from "../types.js";
import { loadingOf } from "./loading.js";
import { useScope } from "./scope.js";

/** What `useSyncExternalStore` takes. */
export type Source<T> = readonly [on: (changed: () => void) => Off, now: () => T, server: () => T];

/**
 * Another result of `read` is the same snapshot if it is alike down to `depth`: 0 compares identities, 2 those of the values
 * of pairs in a list. A change of `on` or `read` counts only with one of the names in `of`.
 */
export function useSource<T>(on: (field: Field, changed: () => void) => Off, read: (field: Readable) => T, depth: number, ...of: readonly unknown[]): Source<T> {
  const { field, server, shown } = useScope();
  return useMemo(
    () => [
      (changed) => {
        void loadingOf(field).ready.then(changed);
        return on(field, coalesced(changed));
      },
      stable(() => read(shown), depth),
      stable(() => read(server), depth),
    ],
    [shown, server, ...of],
  );
}

export function useRead<T>(...source: Parameters<typeof useSource<T>>): T {
  return useSyncExternalStore(...useSource(...source));
}

/** A callback that never changes and calls the one of the last render. */
export function useLatest<A extends unknown[], R>(callback: (...values: A) => R): (...values: A) => R {
  const latest = useRef(callback);
  useEffect(() => {
    latest.current = callback;
  });
  return useRef((...values: A) => latest.current(...values)).current;
}

function stable<T>(read: () => T, depth: number): () => T {
  let last: T | undefined;
  return () => {
    const value = read();
    return alike(last, value, depth) ? (last as T) : (last = value);
  };
}

function alike(a: unknown, b: unknown, depth: number): boolean {
  if (Object.is(a, b)) return true;
  if (!depth || !isList(a) || !isList(b)) return false;
  const others = [...b];
  const own = [...a];
  return own.length === others.length && own.every((value, index) => alike(value, others[index], depth - 1));
}

/** Also a text, which is alike only if it is the same. */
function isList(value: unknown): value is Iterable<unknown> {
  return Symbol.iterator in Object(value);
}

/** Reports the first change of a tick at once, so that inputs keep their caret, and all others of the tick as one. */
function coalesced(changed: () => void): () => void {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    queueMicrotask(() => {
      waits = false;
      changed();
    });
    changed();
  };
}
