// The hooks of entries, counters, sets, participants, and of the state of the client.
import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from "./imports.js";
import type { Json, Member, Members, Refusal, Status, Superseded, Write } from "../types.js";
import { useField } from "./scope.js";
import { useLatest, useRead, useSource } from "./store.js";

export type Entries<V> = readonly (readonly [string, V])[];

/** The entries whose key matches a pattern: a name, or the beginning of names and `*`. The same array until one changes. */
export function useEntries<V = unknown>(pattern: string): Entries<V>;
/** What `select` makes of them. It is the same object as before if it is equal to it, by `equal` (default: `Object.is`). */
export function useEntries<V, T>(pattern: string, select: (entries: Entries<V>) => T, equal?: (a: T, b: T) => boolean): T;
export function useEntries<V, T>(pattern: string, select?: (entries: Entries<V>) => T, equal: (a: T, b: T) => boolean = Object.is): T | Entries<V> {
  const [on, ...sides] = useSource((field, changed) => field.on(pattern, changed), (field) => field.entries(pattern) as Entries<V>, 2, pattern);
  const last = useRef<{ readonly value: T }>(undefined);
  const [now, server] = useMemo(
    () =>
      sides.map((entries) => {
        if (!select) return entries;
        let seen: Entries<V> | undefined;
        let own: T;
        return () => {
          const all = entries();
          if (seen !== all) {
            own = select((seen = all));
            // Equal values are interchangeable, so a render that is thrown away may leave its own one here.
            if (last.current && equal(last.current.value, own)) own = last.current.value;
            last.current = { value: own };
          }
          return own;
        };
      }),
    [...sides, select, equal],
  ) as [() => T | Entries<V>, () => T | Entries<V>];
  return useSyncExternalStore(on, now, server);
}

/** The sum of a counter, and a function that adds a whole number to it, which may be negative. */
export function useCounter(name: string): readonly [number | bigint, (amount: number) => Write] {
  const field = useField();
  const value = useRead((field, changed) => field.counter(name).on(changed), (field) => field.counter(name).value, 0, name);
  return [value, useCallback((amount) => field.counter(name).add(amount), [field, name])];
}

/** Adds to a set, and deletes from it. */
export type SetMembers = Pick<Members, "add" | "delete">;

/** The members of a set, the same array until it changes; and what changes it. */
export function useMembers(name: string): readonly [readonly Member[], SetMembers] {
  const field = useField();
  const values = useRead((field, changed) => field.members(name).on(changed), (field) => field.members(name).values(), 2, name);
  return [values, useMemo(() => field.members(name), [field, name])];
}

/** The other participants and their values, by id. `room` is a pattern of names; default: all that may be read. */
export function useOthers(room?: string): ReadonlyMap<string, Json> {
  return useRead((field, changed) => field.presence.on(changed, room), (field) => field.presence.others(room), 2, room);
}

/** Announces this client with a value as long as the component is mounted; `null` takes it back. One component a room. */
export function usePresence(value: Json, room?: string): void {
  const field = useField();
  // An equal value is the same, so a component may write it where it calls.
  const text = JSON.stringify(value);
  useEffect(() => void field.presence.set(value, room), [field, room, text]);
  useEffect(() => () => void field.presence.set(null, room), [field, room]);
}

/** Whether the client is connected. `connecting` on the server. */
export function useStatus(): Status {
  return useRead((field, changed) => field.onStatus(changed), (field) => field.status, 0);
}

/** The number of writes that are not confirmed yet. 0 on the server. */
export function usePending(): number {
  return useRead((field, changed) => field.onPending(changed), (field) => field.pending, 0);
}

/** Calls back when a write is refused for good. The callback may change with each render. */
export function useRefused(callback: (refusal: Refusal) => void): void {
  useEvent("onRefused", callback);
}

/** Calls back when an own write has lost against a concurrent one. The callback may change with each render. */
export function useSuperseded(callback: (superseded: Superseded) => void): void {
  useEvent("onSuperseded", callback);
}

function useEvent<E>(name: "onRefused" | "onSuperseded", callback: (event: E) => void): void {
  const field = useField();
  const latest = useLatest(callback) as (event: unknown) => void;
  useEffect(() => field[name](latest), [field, latest]);
}
