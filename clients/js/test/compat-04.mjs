// What the tests of the compat entry run against: a page and a server of protocol 0.4 in memory, and one that speaks 0.4 with a gateway.
import { createHash } from "node:crypto";

/** `localStorage`; `room` is the number of characters that it takes. */
export class MemoryStorage {
  #items = new Map();
  constructor(room = Infinity) {
    this.room = room;
  }
  getItem(key) {
    return this.#items.get(key) ?? null;
  }
  setItem(key, value) {
    const others = [...this.#items].filter(([name]) => name !== key);
    if (others.reduce((sum, [, text]) => sum + text.length, String(value).length) > this.room) throw new DOMException("full", "QuotaExceededError");
    this.#items.set(key, String(value));
  }
  removeItem(key) {
    this.#items.delete(key);
  }
}

/** A server of protocol 0.4 that is there, or not. It knows nothing of subprotocols. */
export class Server04 {
  online = false;
  data = {};
  received = [];
  sockets = new Set();
  waiting = new Set();
  attempts = [];
  /** Whether browsers' rule holds: a connection fails if the server takes none of the subprotocols. */
  strict = false;

  /** Looks after each message that has come. */
  until(look) {
    return new Promise((resolve) => {
      const check = () => look(this) && (this.waiting.delete(check), resolve());
      this.waiting.add(check);
      check();
    });
  }

  /** The class `WebSocket` of a page that reaches this server. */
  get WebSocket() {
    const server = this;
    return class {
      onopen = null;
      onmessage = null;
      onclose = null;
      onerror = null;
      protocol = "";
      constructor(url, protocol) {
        this.url = url;
        server.attempts.push([url, protocol]);
        queueMicrotask(() => {
          if (!server.online || (server.strict && protocol)) return this.drop(1006);
          server.sockets.add(this);
          this.onopen?.({});
          this.say({ type: "hello", id: `id-${server.sockets.size}`, color: "hsl(1, 78%, 62%)" });
          this.say({ type: "snapshot", data: server.data });
          return undefined;
        });
      }
      say(message) {
        this.onmessage?.({ data: JSON.stringify(message) });
      }
      send(text) {
        const message = JSON.parse(text);
        server.received.push(message);
        if (message.type === "set") server.data[message.key] = message.value;
        if (message.type === "delete") delete server.data[message.key];
        for (const look of [...server.waiting]) look();
        if (message.type === "set" || message.type === "delete") for (const socket of server.sockets) queueMicrotask(() => socket.say(message));
      }
      drop(code) {
        server.sockets.delete(this);
        this.onclose?.({ code, reason: "" });
      }
      close() {
        if (server.sockets.has(this)) queueMicrotask(() => this.drop(1000));
      }
    };
  }
}

/** Installs the globals of a page for one test. */
export function page(t, { server = new Server04(), room, cache } = {}) {
  const storage = new MemoryStorage(room);
  for (const [key, text] of Object.entries(cache ?? {})) storage.setItem(key, text);
  const before = new Map(["window", "WebSocket"].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));
  globalThis.window = { localStorage: storage };
  Object.defineProperty(globalThis, "WebSocket", { value: server.WebSocket, configurable: true, writable: true });
  t.after(() => {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  });
  return { server, storage };
}

/** Resolves with what `on` is called back with first. */
export function next(on, accept = () => true) {
  return new Promise((resolve) => {
    const off = on((...values) => {
      if (!accept(...values)) return;
      resolve(values);
      queueMicrotask(() => off());
    });
  });
}

export function colorOf(id) {
  return `hsl(${parseInt(createHash("sha1").update(id).digest("hex").slice(0, 6), 16) % 360}, 78%, 62%)`;
}
