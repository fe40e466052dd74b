/** What the client takes from its surroundings: clocks, timers, sockets and the events of a page. */
import type { Off } from "./types.js";

/** The part of WebSocket that is used. */
export interface Socket {
  onopen: ((event: unknown) => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface Environment {
  /** Milliseconds by a clock that nobody sets. */
  monotonic(): number;
  /** Milliseconds since 1970 by the clock of this machine. */
  wall(): number;
  /** From 0 to 1, without 1. */
  random(): number;
  after(ms: number, callback: () => void): Off;
  /** Opens a socket. It may throw. */
  socket(url: string, protocol: string | undefined): Socket;
  readonly hidden: boolean;
  /** Calls back when the network or the page may have come back, or may have gone. */
  onWake(callback: () => void): Off;
}

type SocketClass = new (url: string, protocols?: string) => Socket;

/**
 * The surroundings of a page or of Node. `given` is the class of sockets, where there is none.
 * @throws TypeError if there is none at all.
 */
export function environment(given?: unknown): Environment {
  const SocketOf = (given ?? globalThis.WebSocket) as SocketClass | undefined;
  if (!SocketOf) throw new TypeError("there is no WebSocket here: pass one as the option `WebSocket`");
  const page = typeof document === "undefined" ? undefined : document;
  return {
    monotonic: () => performance.now(),
    wall: () => Date.now(),
    random: () => Math.random(),
    after(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    socket: (url, protocol) => (protocol === undefined ? new SocketOf(url) : new SocketOf(url, protocol)),
    get hidden() {
      return page?.visibilityState === "hidden";
    },
    onWake(callback) {
      if (!page || typeof addEventListener !== "function") return () => {};
      const visible = (): void => {
        if (page.visibilityState === "visible") callback();
      };
      const events = ["online", "offline", "pageshow"];
      for (const name of events) addEventListener(name, callback);
      page.addEventListener("visibilitychange", visible);
      return () => {
        for (const name of events) removeEventListener(name, callback);
        page.removeEventListener("visibilitychange", visible);
      };
    },
  };
}
