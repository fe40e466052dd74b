"use client";
// The React hooks of the sync engine 0.4, over the class `Aether`. React 16.8 and later.
import React from "react";
import { Aether, type AetherOptions, type AetherValue, type SupersedeWatcher } from "./aether.js";

const { useCallback, useEffect, useMemo, useReducer, useState } = React;

export interface AetherConfig extends AetherOptions {
  url: string;
}

export interface AetherMeta {
  /** There is something to show. */
  ready: boolean;
  connected: boolean;
  client: Aether;
}

/** Sets a value, or what a function makes of the present one; `undefined` deletes the key. */
export type AetherSetter<T> = (next: T | undefined | ((previous: T | undefined) => T | undefined)) => void;

export interface AetherSnapshot extends AetherMeta {
  data: { [key: string]: AetherValue };
  setKey: (key: string, value: AetherValue) => void;
  deleteKey: (key: string) => void;
}

interface Shared {
  config: AetherConfig | undefined;
  /** By URL and token. They stay open as long as the page, as in 0.4. */
  readonly clients: Map<string, Aether>;
}

const shared = ((globalThis as unknown as Record<symbol, Shared | undefined>)[Symbol.for("aether-client@1/compat")] ??= {
  config: undefined,
  clients: new Map(),
});

const onServer = typeof window === "undefined";

/** Sets what all hooks use that are not given something else. @throws TypeError without a `url`. */
export function configureAether(config: AetherConfig): void {
  if (typeof config?.url !== "string") throw new TypeError("configureAether needs a url");
  shared.config = { ...config };
}

/** The client of the hooks, one for each URL and token. @throws TypeError without a `url`. */
export function getAether(options?: Partial<AetherConfig>): Aether {
  const { url, ...rest } = { ...shared.config, ...options };
  if (typeof url !== "string" || !url) throw new TypeError("there is no url: give it to the hook, or once to configureAether");
  // On the server nothing connects, and no request sees the state of another one.
  if (onServer) return new Aether(url, { WebSocket: null, persist: false });
  const key = JSON.stringify([url, rest.authToken]);
  let client = shared.clients.get(key);
  if (!client) shared.clients.set(key, (client = new Aether(url, rest)));
  return client;
}

/** The value of a key, a function that sets it, and the state of the client. Renders again for this key only. */
export function useAether<T = AetherValue>(key: string, defaultValue?: T, options?: Partial<AetherConfig>): [T, AetherSetter<T>, AetherMeta] {
  const client = getAether(options);
  const subscribe = useCallback((changed: () => void) => client.on(key, changed), [client, key]);
  const read = useCallback(() => client.get<T>(key), [client, key]);
  const found = useStore(subscribe, read, nothing);
  const set = useCallback<AetherSetter<T>>(
    (next) => {
      const value = typeof next === "function" ? (next as (previous: T | undefined) => T | undefined)(client.get<T>(key)) : next;
      if (value === undefined) client.delete(key);
      else client.set(key, value);
    },
    [client, key],
  );
  return [(found === undefined ? defaultValue : found) as T, set, useMeta(client)];
}

/** All keys and values. Renders again for each change. */
export function useAetherSnapshot(options?: Partial<AetherConfig>): AetherSnapshot {
  const client = getAether(options);
  const [subscribe, read] = useMemo(() => {
    let data: AetherSnapshot["data"] | undefined;
    const on = (changed: () => void): (() => void) => {
      data = undefined;
      return client.onAny(() => {
        data = undefined;
        changed();
      });
    };
    return [on, () => (data ??= client.snapshot())] as const;
  }, [client]);
  const data = useStore(subscribe, read, empty);
  const setKey = useCallback((key: string, value: AetherValue) => client.set(key, value), [client]);
  const deleteKey = useCallback((key: string) => client.delete(key), [client]);
  return { data, setKey, deleteKey, ...useMeta(client) };
}

/** Calls back when a write of this client has lost. `deps` as those of `useEffect`. */
export function useAetherSupersede(callback: SupersedeWatcher, deps: readonly unknown[] = [], options?: Partial<AetherConfig>): void {
  const client = getAether(options);
  useEffect(() => client.onSupersede(callback), [client, ...deps]);
}

function useMeta(client: Aether): AetherMeta {
  const [ready, setReady] = useState(false);
  const [connected, setConnected] = useState(false);
  useEffect(() => {
    let mounted = true;
    client.ready().then(
      () => mounted && setReady(true),
      () => {},
    );
    const off = client.onStatus(setConnected);
    return () => {
      mounted = false;
      off();
    };
  }, [client]);
  return useMemo(() => ({ ready, connected, client }), [ready, connected, client]);
}

const nothing = (): undefined => undefined;
const NO_DATA = Object.freeze({});
const empty = (): typeof NO_DATA => NO_DATA;

type UseStore = <T, S>(subscribe: (changed: () => void) => () => void, read: () => T, server: () => S) => T | S;

/** React 18 has it; by a name that bundlers do not look for in older ones. */
const useStore: UseStore = (React as unknown as Record<string, UseStore | undefined>)["useSyncExternalStore"] ?? useStoreBefore18;

/** There, a render is not interrupted, so reading again after the mount and after each change is all that is needed. */
function useStoreBefore18<T, S>(subscribe: (changed: () => void) => () => void, read: () => T, server: () => S): T | S {
  const [, renderAgain] = useReducer((count: number) => count + 1, 0);
  const shown = onServer ? server() : read();
  useEffect(() => {
    let last: T | S = shown;
    const check = (): void => {
      const next = read();
      if (Object.is(last, next)) return;
      last = next;
      renderAgain();
    };
    const off = subscribe(check);
    check();
    return off;
  }, [subscribe, read]);
  return shown;
}

export { Aether };
export default useAether;
