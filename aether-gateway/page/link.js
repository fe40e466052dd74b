// The connection to the gateway: one WebSocket, which comes back by itself.

import { exact } from "./json.js";

const PAUSES = [250, 500, 1000, 2000];
/** The gateway says something every second, so this long a silence means that it is away. */
const SILENCE = 6000;
const TOKEN = "aether-token";
/** Views have no payloads, and come every second. */
const VIEW = '{"op":"view"';

/**
 * Events: `state` when the connection changes, `view` with `{view, data, missed}`, `waves` with `{id, waves, missed}`.
 * `state` is "connecting", "live" or "away".
 */
export class Link extends EventTarget {
  state = "connecting";
  hello = null;
  since = performance.now();
  #socket = null;
  #attempts = 0;
  #retry = 0;
  #watchdog = 0;
  #number = 1;
  #waiting = new Map();
  #views = new Set();
  #subscriptions = new Map();

  get token() {
    return sessionStorage.getItem(TOKEN) ?? "";
  }

  connect() {
    clearTimeout(this.#retry);
    const socket = new WebSocket(new URL("/ws", location.href.replace(/^http/, "ws")));
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (socket === this.#socket) this.#receive(data.startsWith(VIEW) ? JSON.parse(data) : exact(data));
    });
    socket.addEventListener("close", () => {
      if (socket === this.#socket) this.#lost();
    });
    this.#listen();
  }

  /** Tries at once, for example because the network is back. */
  hurry() {
    if (this.state !== "live") {
      this.#attempts = 0;
      const old = this.#socket;
      this.connect();
      old?.close();
    }
  }

  watch(view) {
    if (this.#views.has(view)) return;
    this.#views.add(view);
    this.#send({ op: "watch", view });
  }

  unwatch(view) {
    if (this.#views.delete(view)) this.#send({ op: "unwatch", view });
  }

  /** Subscribes under a number; a new filter replaces the one before. Rejected if the filter is not valid. */
  subscribe(id, filter) {
    this.#subscriptions.set(id, filter);
    return this.#request({ op: "subscribe", id, filter });
  }

  unsubscribe(id) {
    if (this.#subscriptions.delete(id)) this.#send({ op: "unsubscribe", id });
  }

  emit(wave) {
    return this.#request({ op: "emit", id: this.#next(), wave });
  }

  ask(wave, patienceMs) {
    return this.#request({ op: "ask", id: this.#next(), wave, patience_ms: patienceMs });
  }

  /** Uses a token from now on. Rejected if the gateway does not know it. */
  async use(token) {
    await this.#request({ op: "token", id: this.#next(), token });
    sessionStorage.setItem(TOKEN, token);
    this.hello.refused = null;
    for (const [id, filter] of this.#subscriptions) this.#request({ op: "subscribe", id, filter }).catch(() => {});
    this.#changed();
  }

  /** A request to the API, as JSON. */
  async fetch(path, options = {}) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(path, { ...options, headers });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    const body = isJson ? JSON.parse(text) : text;
    if (!response.ok) throw new Error(isJson ? body.text : text.trim());
    return body;
  }

  #next() {
    // Subscriptions have small numbers.
    this.#number += 1;
    return 1000 + this.#number;
  }

  #send(message) {
    if (this.state === "live") this.#socket.send(JSON.stringify(message));
  }

  #request(message) {
    if (this.state !== "live") return Promise.reject(new Error("the gateway is away"));
    const [text, most] = [JSON.stringify(message), this.hello.max_message_bytes];
    const size = new TextEncoder().encode(text).length;
    if (size > most) return Promise.reject(new Error(`the message has ${size} bytes: at most ${most} are allowed`));
    return new Promise((resolve, reject) => {
      // A newer subscription under the same number answers for the one before.
      this.#waiting.get(message.id)?.resolve(null);
      this.#waiting.set(message.id, { resolve, reject });
      this.#socket.send(text);
    });
  }

  #receive(message) {
    this.#listen();
    switch (message.op) {
      case "hello":
        this.#begin(message);
        break;
      case "view":
        this.dispatchEvent(new CustomEvent("view", { detail: message }));
        break;
      case "waves":
        this.dispatchEvent(new CustomEvent("waves", { detail: message }));
        break;
      case "waiting":
        break;
      case "error":
        this.#take(message.id)?.reject(new Error(message.text));
        break;
      default:
        this.#take(message.id)?.resolve(message);
    }
  }

  #take(id) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #begin(hello) {
    this.hello = hello;
    this.#attempts = 0;
    this.state = "live";
    this.since = performance.now();
    const quietly = (request) => request.catch(() => {});
    const ready = this.token
      ? this.#request({ op: "token", id: this.#next(), token: this.token }).then(
          () => {
            this.hello.refused = null;
            this.#changed();
          },
          () => {},
        )
      : Promise.resolve();
    for (const view of this.#views) this.#send({ op: "watch", view });
    ready.then(() => {
      for (const [id, filter] of this.#subscriptions) quietly(this.#request({ op: "subscribe", id, filter }));
    });
    this.#changed();
  }

  #listen() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const socket = this.#socket;
      this.#socket = null;
      socket?.close();
      this.#lost();
    }, SILENCE);
  }

  #lost() {
    clearTimeout(this.#watchdog);
    for (const { reject } of this.#waiting.values()) reject(new Error("the gateway went away"));
    this.#waiting.clear();
    if (this.state !== "away") {
      this.state = "away";
      this.since = performance.now();
      this.#changed();
    }
    const pause = PAUSES[Math.min(this.#attempts, PAUSES.length - 1)];
    this.#attempts += 1;
    clearTimeout(this.#retry);
    // Apart from each other, when many pages wait for one gateway.
    this.#retry = setTimeout(() => this.connect(), pause * (0.8 + 0.4 * Math.random()));
  }

  #changed() {
    this.dispatchEvent(new Event("state"));
  }
}
