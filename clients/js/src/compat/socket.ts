// A WebSocket class that also understands servers of protocol 0.4, so that a page can move before its server does.
import type { Socket } from "../environment.js";

type SocketClass = new (url: string, protocol?: string) => Socket & { readonly protocol?: string };
type Message = Readonly<Record<string, unknown>>;

/** The address with a token, as protocol 0.4 takes it; what the address has already stays. */
export function withToken(url: string, token: string | undefined): string {
  if (!token) return url;
  const [address = "", ...fragment] = url.split("#");
  return [`${address}${address.includes("?") ? "&" : "?"}auth_token=${encodeURIComponent(token)}`, ...fragment].join("#");
}

/**
 * A class over `Base`. A server that takes the subprotocol is spoken to as it is. One that refuses it, or opens without it, is a
 * server of protocol 0.4, and {@link Translation} stands in between. Once a server has taken the subprotocol, no other is tried.
 * `ended` is called after each connection that was lost, or did not come about.
 */
export function socketClass(Base: SocketClass, token: string | undefined, ended: () => void): new (url: string, protocol?: string) => Socket {
  let modern = false;
  return class implements Socket {
    onopen: Socket["onopen"] = null;
    onmessage: Socket["onmessage"] = null;
    onclose: Socket["onclose"] = null;
    onerror: Socket["onerror"] = null;
    #socket: Socket & { readonly protocol?: string };
    #translation: Translation | undefined;
    #closed = false;

    constructor(url: string, protocol?: string) {
      this.#socket = this.#connect(new Base(url, protocol), protocol, modern ? undefined : () => new Base(withToken(url, token)));
    }

    #connect(socket: Socket & { readonly protocol?: string }, protocol: string | undefined, otherwise?: () => typeof socket): typeof socket {
      let open = false;
      socket.onopen = (event) => {
        open = true;
        if (protocol !== undefined && socket.protocol === protocol) modern = true;
        else this.#translation = new Translation((text) => socket.send(text), (message) => this.onmessage?.({ data: JSON.stringify(message) }));
        this.onopen?.(event);
      };
      socket.onmessage = (event) => (this.#translation ? this.#translation.fromServer(event.data) : this.onmessage?.(event));
      socket.onclose = (event) => {
        if (open || this.#closed || !otherwise) return this.#end(event);
        // A page is not told why a connection did not open. A server of 0.4 does not take the subprotocol.
        try {
          this.#socket = this.#connect(otherwise(), undefined);
        } catch {
          this.#end(event);
        }
        return undefined;
      };
      socket.onerror = () => {};
      return socket;
    }

    #end(event: { readonly code: number; readonly reason: string }): void {
      // The client closes its side when it hears of it.
      const closed = this.#closed;
      this.onclose?.(event);
      if (!closed) ended();
    }

    send(text: string): void {
      if (this.#translation) this.#translation.fromClient(text);
      else this.#socket.send(text);
    }

    close(code?: number): void {
      this.#closed = true;
      this.#socket.close(code);
    }
  };
}

/** Speaks `aether.field.v1` with a client and 0.4 with its server, as far as 0.4 goes: registers, and presence with x and y. */
class Translation {
  readonly #send: (text: string) => void;
  readonly #receive: (message: Message) => void;
  /** Of this connection only: nothing can be resumed. */
  readonly #epoch = `0.4/${Date.now()}/${Math.random()}`;
  #revision = 0;
  /** What the server has; `undefined` before its snapshot. */
  #data: Map<string, { readonly value: unknown; readonly version: string }> | undefined;
  #id: unknown;
  #greets = false;
  #subscribes = false;
  /** Writes that the server has not sent back yet, by key. It sends them back in order. */
  readonly #sent = new Map<string, Message[]>();

  constructor(send: (text: string) => void, receive: (message: Message) => void) {
    this.#send = send;
    this.#receive = receive;
  }

  fromClient(text: string): void {
    const messages: Message | readonly Message[] = JSON.parse(text);
    for (const message of Array.isArray(messages) ? (messages as readonly Message[]) : [messages as Message]) this.#request(message);
  }

  #request(message: Message): void {
    const { type, op, key, value, token, id } = message;
    if (type === "hello") {
      if (token) this.#say({ type: "auth", token });
      this.#greets = true;
      this.#greet();
    } else if (type === "subscribe") {
      this.#subscribes = true;
      this.#snapshot();
    } else if (type === "set" || type === "delete") {
      const name = String(key);
      this.#sent.set(name, [...(this.#sent.get(name) ?? []), message]);
      this.#say(type === "set" ? { type, key, value } : { type, key });
    } else if (type === "presence") {
      const { x, y } = (value ?? {}) as { readonly x?: unknown; readonly y?: unknown };
      if (typeof x === "number" && typeof y === "number") this.#say({ type, x, y });
    } else if (type === "ping") {
      this.#receive({ type: "pong", id, time: Date.now() });
    } else if (op !== undefined) {
      this.#receive({ type: "refused", op, code: "field", message: "a server of protocol 0.4 has only registers" });
    }
  }

  fromServer(data: unknown): void {
    let message: Message;
    try {
      message = JSON.parse(String(data));
    } catch {
      return;
    }
    const { type, id, key, value, x, y } = message ?? {};
    if (type === "hello") {
      this.#id = id;
      this.#greet();
    } else if (type === "snapshot") {
      const entries = Object.entries(message.data ?? {}).filter(([, value]) => value !== null);
      this.#data = new Map(entries.map(([key, value]) => [key, { value, version: this.#version() }]));
      this.#snapshot();
    } else if ((type === "set" || type === "delete") && typeof key === "string") {
      this.#change(key, type === "set" && value !== null ? value : undefined);
    } else if (type === "presence") {
      this.#receive({ type, id, value: { x, y } });
    } else if (type === "presence-leave") {
      this.#receive({ type, id });
    }
  }

  #greet(): void {
    if (!this.#greets || this.#id === undefined) return;
    this.#greets = false;
    this.#receive({ type: "hello", protocol: 1, field: "", id: this.#id, time: Date.now(), read: ["*"], write: ["*"], limits: {} });
  }

  #snapshot(): void {
    if (!this.#subscribes || !this.#data) return;
    const cursor = { epoch: this.#epoch, revision: this.#revision };
    const entries = [...this.#data].map(([key, held]) => ({ key, ...held }));
    this.#receive({ type: "subscribed", resumed: false, ...cursor });
    this.#receive({ type: "snapshot", first: true, sent: entries.length, at_most: entries.length, done: true, ...cursor, entries });
  }

  #change(key: string, value: unknown): void {
    const version = this.#version();
    if (value === undefined) this.#data?.delete(key);
    else this.#data?.set(key, { value, version });
    if (this.#subscribes && this.#data) {
      const entry = value === undefined ? { key, version } : { key, value, version };
      this.#receive({ type: "changes", epoch: this.#epoch, revision: this.#revision, entries: [entry] });
    }
    const [write, ...left] = this.#sent.get(key) ?? [];
    if (!write) return;
    if (left.length) this.#sent.set(key, left);
    else this.#sent.delete(key);
    this.#receive({ type: "ack", op: write.op, version });
    if (write.durable) this.#receive({ type: "durable", op: write.op });
  }

  /** In the form of versions, in the order in which this client has heard. */
  #version(): string {
    this.#revision += 1;
    return `${Date.now()}000.${this.#revision}@0000000000000000`;
  }

  #say(message: Message): void {
    this.#send(JSON.stringify(message));
  }
}
