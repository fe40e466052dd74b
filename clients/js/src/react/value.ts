// The hook of one register.
import { useCallback, useMemo, useSyncExternalStore } from "./imports.js";
import type { Field, Status, Write } from "../types.js";
import { loadingOf } from "./loading.js";
import { useScope } from "./scope.js";
import { useLatest, useRead, type Source } from "./store.js";

/** A component that reads one of these renders again when it changes. */
export interface ValueInfo {
  /** Whether a write of this key, made by a hook, is not confirmed yet. */
  readonly pending: boolean;
  readonly status: Status;
}

/** Sets a value, or what a function makes of the present one; `undefined` deletes the key. It never changes. */
export type SetValue<T> = (next: T | undefined | ((old: T | undefined) => T | undefined)) => Write;

/** The value of a key, a function that sets it, and how the last write is doing. */
export function useValue<T>(key: string): readonly [T | undefined, SetValue<T>, ValueInfo];
/** The same, with a value for while the key is absent. `set` gives it to functions as the old one. */
export function useValue<T>(key: string, absent: T): readonly [T, SetValue<T>, ValueInfo];
export function useValue<T>(key: string, absent?: T): readonly [T | undefined, SetValue<T>, ValueInfo] {
  const { field, shown } = useScope();
  const found = useRead((field, changed) => field.on(key, changed), (field) => field.get(key) as T | undefined, 0, key);
  const [info, ...source] = useMemo(() => infoOf(field, key), [field, key]);
  const seen = useSyncExternalStore(...source);

  const latest = useLatest(() => absent);
  const set = useCallback<SetValue<T>>(
    (next) => {
      if (typeof next === "function") next = (next as (old: T | undefined) => T | undefined)((shown.get(key) as T | undefined) ?? latest());
      const write = next === undefined ? field.delete(key) : field.set(key, next);
      track(field, key, write);
      return write;
    },
    [shown, key, latest],
  );
  return [found ?? absent, set, useMemo(info, [info, seen])];
}

/** Makes the object, and its source. A component is woken only for the properties that it reads. */
function infoOf(field: Field, key: string): readonly [make: () => ValueInfo, ...Source<string>] {
  let readsPending = false;
  let readsStatus = false;
  let hydrates = false;
  const pending = (): boolean => !hydrates && [...loadingOf(field).writes.values()].includes(key);
  const status = (): Status => (hydrates ? "connecting" : field.status);
  return [
    () => ({
      get pending() {
        readsPending = true;
        return pending();
      },
      get status() {
        readsStatus = true;
        return status();
      },
    }),
    (changed) => {
      const { listeners } = loadingOf(field);
      listeners.add(changed);
      const off = field.onStatus(changed);
      return () => {
        listeners.delete(changed);
        off();
      };
    },
    () => {
      hydrates = false;
      return `${readsPending && pending()} ${readsStatus ? status() : "connecting"}`;
    },
    () => {
      hydrates = true;
      return "false connecting";
    },
  ];
}

/** Counts the write as pending until it is confirmed, refused or replaced. */
function track(field: Field, key: string, write: Write): void {
  const { writes, listeners } = loadingOf(field);
  const tell = (): void => listeners.forEach((changed) => changed());
  const done = (): void => {
    writes.delete(write);
    tell();
  };
  writes.set(write, key);
  tell();
  write.then(done, done);
}
