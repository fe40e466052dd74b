/** The bus for a page or a program of Node, as a guest of a gateway (docs/protocol/gateway-websocket.md). */
import { Subscriptions } from "./bus-listening.js";
import { Requests, failure } from "./bus-requests.js";
import type { AskOptions, Bus, BusCounts, BusOptions, Emitted, EmitOptions, Listening, ListenOptions, Wave } from "./bus-types.js";
import { draftOf, filterOf, waveOf, whole } from "./bus-wave.js";
import { Connection } from "./connection.js";
import type { ConnectionState, Protocol } from "./connection.js";
import { environment } from "./environment.js";
import type { FieldProblem, Off, Status } from "./types.js";
import { Watchers } from "./watchers.js";

const QUEUE = 1024;
const PATIENCE_MS = 5_000;
const LONGEST_PATIENCE_MS = 60_000;
/** Pings are subscriptions of these numbers that end before they begin. No request gets as far. */
const PINGS = 2 ** 40;

type Message = Readonly<Record<string, unknown>>;

/**
 * Connects to the bus, at once, and again whenever the connection is lost.
 *
 * @param url The address of the gateway, such as `ws://127.0.0.1:8080/ws`; several are tried in turn.
 * @throws TypeError if the address is not one, or if there is no WebSocket here.
 */
export function bus(url: string | readonly string[], options: BusOptions = {}): Bus {
  return new Guest(url, options);
}

class Guest implements Bus {
  readonly #connection: Connection;
  readonly #requests: Requests;
  readonly #subscriptions: Subscriptions;
  readonly #problems = new Watchers<FieldProblem>();
  readonly #statuses = new Watchers<Status>();
  #ids = 0;
  #emitted = 0;
  #status: Status = "connecting";
  #needsToken: boolean | undefined;
  /** The token of this connection, and the number of the request that has sent it. */
  #token: string | undefined;
  #tokenId = -1;
  /** Why the gateway did not admit this client last. */
  #refusal = { reason: "denied", text: "refused" };
  /** Whether it will not, whatever token this client has. */
  #isDenied = false;
  /** Why a message could not be read, while it is being found out which. */
  #unread: { reason: string; text: string } | undefined;

  constructor(url: string | readonly string[], { token, queue = QUEUE, WebSocket, onError }: BusOptions) {
    const of = environment(WebSocket);
    const protocol: Protocol = {
      arrays: false,
      opened: (token) => void (this.#token = token),
      message: (message) => this.#receive(message),
      lost: () => this.#lost(),
      next: (most) => this.#requests.next(most),
      ping: (id) => ({ op: "unsubscribe", id: PINGS + id }),
      state: (state) => this.#become(state),
      problem: (problem) => this.#problem(problem),
    };
    const nextId = (): number => ++this.#ids;
    if (onError) this.#problems.add(onError);
    this.#connection = new Connection(url, token, protocol, of);
    this.#requests = new Requests(whole(queue, "queue"), of, nextId, () => this.#connection.wake());
    this.#subscriptions = new Subscriptions(nextId, (request) => {
      if (this.#connection.state === "open") this.#connection.send(request);
    });
    this.#connection.start();
  }

  get status(): Status {
    return this.#status;
  }

  get needsToken(): boolean | undefined {
    return this.#needsToken;
  }

  get counts(): BusCounts {
    return { emitted: this.#emitted, refused: this.#requests.refused, missed: this.#subscriptions.missed };
  }

  async emit(channel: string, payload?: unknown, options: EmitOptions = {}): Promise<Emitted> {
    const { wave, receivers, waited } = await this.#request("emit", channel, payload, 0, options);
    this.#emitted += 1;
    return { id: String(wave), receivers: typeof receivers === "number" ? receivers : null, waited: waited === true };
  }

  async ask<P = unknown>(channel: string, payload?: unknown, options: AskOptions = {}): Promise<Wave<P>> {
    const patience = Math.min(whole(options.patience ?? PATIENCE_MS, "patience") || 1, LONGEST_PATIENCE_MS);
    const answer = await this.#request("ask", channel, payload, patience, { ...options, kind: options.kind ?? "query" });
    const wave = waveOf(answer.wave);
    if (!wave) throw failure("ask", "protocol", "the answer makes no sense");
    return wave as Wave<P>;
  }

  async #request(op: "emit" | "ask", channel: string, payload: unknown, patience: number, options: EmitOptions): Promise<Message> {
    const wave = draftOf(channel, payload, options);
    if (this.#status === "closed") throw failure(op, "closed", "the bus is closed");
    if (this.#isDenied) throw failure(op, this.#refusal.reason, this.#refusal.text);
    return this.#requests.add({ op, wave, patience, signal: options.signal });
  }

  listen<P = unknown>(pattern: string, options: ListenOptions = {}): Listening<P> {
    whole(options.buffer, "buffer");
    const queue = this.#subscriptions.open(filterOf(pattern, options), options);
    if (this.#status === "closed") queue.end();
    else if (this.#isDenied) this.#subscriptions.denied(this.#refusal.reason, this.#refusal.text);
    // The type of the payloads is what the caller says.
    return queue as Listening<unknown> as Listening<P>;
  }

  onStatus(callback: (status: Status) => void): Off {
    return this.#statuses.add(callback);
  }

  retry(): void {
    this.#connection.retry();
  }

  async close(): Promise<void> {
    this.#connection.close();
    this.#requests.fail("closed", "the bus is closed");
    this.#subscriptions.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #receive(message: Message): void {
    const { op, id } = message;
    switch (op) {
      case "hello":
        return this.#hello(message);
      case "waves":
        return this.#waves(message);
      case "done":
        if (id === this.#tokenId) return this.#admitted();
        if (id === PINGS && this.#unread) return this.#requests.unread(this.#unread.reason, this.#unread.text);
        if (typeof id === "number" && id > PINGS) return this.#connection.pong(id - PINGS);
        break;
      case "error":
        if (id === this.#tokenId) return this.#refuse(String(message.reason), String(message.text));
        if (id === 0) return this.#unreadable(String(message.reason), String(message.text));
    }
    // An answer to something that was given up, or a message of a newer gateway, is for nobody.
    void (this.#requests.answer(message) || this.#subscriptions.answer(message));
  }

  #hello({ needs_token, max_message_bytes }: Message): void {
    this.#needsToken = needs_token === true;
    if (typeof max_message_bytes === "number") this.#requests.maxBytes = max_message_bytes;
    if (this.#token !== undefined) {
      this.#tokenId = ++this.#ids;
      this.#connection.send({ op: "token", id: this.#tokenId, token: this.#token });
    } else if (this.#needsToken) {
      this.#refuse("no_token", "a token is needed");
    } else {
      this.#admitted();
    }
  }

  #admitted(): void {
    this.#isDenied = false;
    this.#connection.greeted({ maxMessageBytes: this.#requests.maxBytes });
  }

  #refuse(reason: string, text: string): void {
    this.#refusal = { reason, text };
    this.#connection.deny(text);
  }

  #waves({ id, missed, waves }: Message): void {
    const read = (Array.isArray(waves) ? waves : [undefined]).map(waveOf);
    const known = read.filter((wave) => wave !== undefined);
    const senseless = read.length - known.length;
    if (senseless) this.#problem({ code: "protocol", message: "a wave makes no sense" });
    this.#subscriptions.waves(id, (typeof missed === "number" ? missed : 0) + senseless, known);
  }

  #unreadable(reason: string, text: string): void {
    this.#problem({ code: "protocol", message: `the gateway could not read a message: ${text}` });
    this.#unread = { reason, text };
    this.#requests.suspect();
    this.#connection.send({ op: "unsubscribe", id: PINGS });
  }

  #lost(): void {
    this.#tokenId = -1;
    this.#subscriptions.lost();
    this.#requests.lost();
  }

  #become(state: ConnectionState): void {
    if (state === "open") this.#subscriptions.resume();
    const status = state === "open" ? "online" : state;
    if (status === this.#status) return;
    this.#status = status;
    this.#statuses.call(status);
  }

  #problem(problem: FieldProblem): void {
    // Before this, a new token may have been tried.
    if (problem.code === "denied") {
      this.#isDenied = true;
      const { reason, text } = this.#refusal;
      this.#requests.fail(reason, text);
      this.#subscriptions.denied(reason, text);
    }
    this.#problems.call(problem);
  }
}
