/**
 * One connection to a gateway that comes back by itself. It knows WebSocket, tokens, rates and clocks, and leaves the
 * messages to a {@link Protocol}.
 */
import { GatewayClock } from "./clock.js";
import type { Environment, Socket } from "./environment.js";
import { utf8Length } from "./json.js";
import type { FieldProblem, Off, Options } from "./types.js";

/**
 * - `connecting`: the first attempt, or the first one after the connection was lost.
 * - `open`: the gateway has greeted.
 * - `offline`: the last attempt failed; the next one is timed.
 * - `denied`: the gateway refused the token.
 * - `closed`: by `close`.
 */
export type ConnectionState = "connecting" | "open" | "offline" | "denied" | "closed";

/** What is spoken over a connection. */
export interface Protocol {
  /** The WebSocket subprotocol. */
  readonly subprotocol?: string;
  /** Whether several requests may be sent as one array. */
  readonly arrays: boolean;
  /** The socket is open. The protocol greets with `send`, and calls `greeted` when the gateway has greeted, too. */
  opened(token: string | undefined): void;
  /** A message has come. `text` is it as it came, for numbers that JavaScript does not hold. */
  message(message: Record<string, unknown>, text: string): void;
  /** The socket is gone. What was sent and not answered may have arrived or not. */
  lost(): void;
  /** At most `most` requests that wait, as JSON. Called when the rate allows to send; `wake` announces that some wait. */
  next(most: number): string[];
  /** A ping with this number. The protocol calls `pong` when the answer comes. Without it, silence is not detected. */
  ping?(id: number): object;
  state(state: ConnectionState): void;
  problem(problem: FieldProblem): void;
}

/** The bounds that the gateway states in its greeting. */
export interface Rate {
  readonly messagesPerSecond: number;
  readonly messagesBurst: number;
  readonly maxMessageBytes: number;
  /** The requests of an array that count as one message. */
  readonly requestsPerMessage: number;
}

const DEFAULT_RATE: Rate = { messagesPerSecond: 100, messagesBurst: 200, maxMessageBytes: 65_536, requestsPerMessage: 1 };
const MAX_BATCH = 500;
/** Requests that wait for the rate are sent about this often, several at once. */
const PACE_MS = 100;
const FIRST_DELAY_MS = 200;
const MAX_DELAY_MS = 5_000;
const MAX_HIDDEN_DELAY_MS = 30_000;
/** A connection that lived this long was a good one. */
const GOOD_MS = 10_000;
const BUSY_MS = 5_000;
const DENIED_MS = 60_000;
/** The gateway closes a connection after 5 s without a hello; it may take as long to open. */
const OPENING_MS = 15_000;
const SILENCE_MS = 25_000;
const PONG_MS = 5_000;
const MEASURE_MS = 60_000;

export class Connection {
  readonly clock: GatewayClock;
  readonly #urls: readonly string[];
  readonly #token: Options["token"];
  readonly #protocol: Protocol;
  readonly #of: Environment;
  readonly #offWake: Off;
  #state: ConnectionState = "connecting";
  #url = 0;
  #socket: Socket | undefined;
  /** Whether the gateway has greeted on this socket. */
  #isOpen = false;
  #openSince = 0;
  /** The attempts since the last good connection. */
  #attempts = 0;
  /** The present attempt, while it is under way. */
  #attempting: object | undefined;
  /** The token that the function gave last; undefined when it has to be asked. */
  #lastToken: string | undefined;
  /** Whether a new token was tried since the last denial. */
  #triedNewToken = false;
  #rate = DEFAULT_RATE;
  #allowed = 0;
  #allowedAt = 0;
  #offRetry: Off | undefined;
  #offPace: Off | undefined;
  #offOpening: Off | undefined;
  #offBeat: Off | undefined;
  #offPong: Off | undefined;
  #heard = 0;
  #measured = 0;
  #pings = 0;
  readonly #pinged = new Map<number, number>();
  /** Whether this gateway answers pings; older ones do not. */
  #answersPings = false;

  /**
   * It connects with `start`.
   * @throws TypeError if there is no URL, or if one is not of `ws:`, `wss:`, `http:` or `https:`.
   */
  constructor(url: string | readonly string[], token: Options["token"], protocol: Protocol, of: Environment) {
    this.#urls = (typeof url === "string" ? [url] : url).map(addressOf);
    if (!this.#urls.length) throw new TypeError("there is no URL");
    this.#token = token;
    this.#protocol = protocol;
    this.#of = of;
    this.clock = new GatewayClock(of);
    this.#offWake = of.onWake(() => this.#wakeUp());
  }

  start(): void {
    if (this.#state !== "closed" && !this.#attempting) void this.#connect();
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Connects now, if it waits to, with a new token if the last one was denied. */
  retry(): void {
    if (!this.#offRetry) return;
    this.#triedNewToken = false;
    this.#stopRetry();
    void this.#connect();
  }

  close(): void {
    if (this.#state === "closed") return;
    this.#offWake();
    this.#stopRetry();
    this.#drop(1000);
    this.#become("closed");
  }

  /** Sends a request at once. It counts for the rate. Does nothing without a socket. */
  send(request: object): void {
    this.#refill();
    this.#allowed -= 1;
    this.#write(JSON.stringify(request));
  }

  /** Requests wait. */
  wake(): void {
    if (this.#isOpen && !this.#offPace) this.#pump();
  }

  /** The gateway has greeted: requests that wait go out from now on. `time` is its clock, asked for at `sent`. */
  greeted(rate: Partial<Rate>, time?: number, sent?: number): void {
    this.#offOpening?.();
    this.#isOpen = true;
    this.#openSince = this.#of.monotonic();
    this.#triedNewToken = false;
    this.#rate = { ...DEFAULT_RATE, ...rate };
    // One is for the hello.
    this.#allowed = this.#rate.messagesBurst - 1;
    this.#allowedAt = this.#openSince;
    this.clock.forget();
    if (time !== undefined) this.clock.sample(sent ?? this.#openSince, time);
    this.#become("open");
    this.#beat();
    this.#ping();
    this.wake();
  }

  /** The answer to a ping, with the clock of the gateway if it is in it. */
  pong(id: number, time?: number): void {
    const sent = this.#pinged.get(id);
    if (sent === undefined) return;
    this.#pinged.delete(id);
    this.#answersPings = true;
    if (time !== undefined) this.clock.sample(sent, time);
  }

  /** The gateway refused the token by a message. */
  deny(reason: string): void {
    this.#end(4401, reason);
  }

  #become(state: ConnectionState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#protocol.state(state);
  }

  async #connect(): Promise<void> {
    let token: string | undefined;
    const attempt = (this.#attempting = {});
    try {
      token = typeof this.#token === "function" ? (this.#lastToken ??= await this.#token()) : this.#token;
    } catch (cause) {
      if (attempt !== this.#attempting) return;
      this.#protocol.problem({ code: "token", message: `the token function failed: ${String(cause)}`, cause });
      this.#failed();
      return;
    }
    if (attempt !== this.#attempting || this.#state === "closed") return;
    this.#open(token);
  }

  #open(token: string | undefined): void {
    let socket: Socket;
    try {
      socket = this.#of.socket(this.#urls[this.#url] ?? "", this.#protocol.subprotocol);
    } catch (cause) {
      this.#protocol.problem({ code: "protocol", message: String(cause), cause });
      this.#failed();
      return;
    }
    this.#socket = socket;
    this.#offOpening = this.#of.after(OPENING_MS, () => this.#end(1006, "no answer"));
    socket.onopen = () => {
      this.#heard = this.#of.monotonic();
      this.#protocol.opened(token);
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // A close follows.
    socket.onerror = () => {};
  }

  #receive(data: unknown): void {
    this.#heard = this.#of.monotonic();
    try {
      const text = data as string;
      const message: unknown = JSON.parse(text);
      if (typeof message !== "object" || message === null) throw new TypeError("it is not an object");
      this.#protocol.message(message as Record<string, unknown>, text);
    } catch (cause) {
      this.#protocol.problem({ code: "protocol", message: `a message made no sense: ${String(cause)}`, cause });
    }
  }

  /** The connection has ended, or is given up. */
  #end(code: number, reason: string): void {
    const wasOpen = this.#isOpen;
    const livedWell = wasOpen && this.#of.monotonic() - this.#openSince >= GOOD_MS;
    this.#drop();
    if (livedWell) this.#attempts = 0;
    const noHello = code === 1008 && reason === "no hello";
    if (code === 4401 || code === 4403 || (code === 1008 && !noHello)) {
      this.#denied(code, reason);
    } else if (code === 1013 || noHello) {
      this.#failed(BUSY_MS);
    } else if (wasOpen) {
      // The next attempt decides whether this is more than a flap.
      this.#become("connecting");
      this.#retryIn(this.#delay());
    } else {
      this.#failed();
    }
  }

  #denied(code: number, reason: string): void {
    this.#lastToken = undefined;
    const again = typeof this.#token === "function" && !this.#triedNewToken;
    this.#triedNewToken = true;
    // The new token decides whether the client is denied.
    this.#become(again ? "connecting" : "denied");
    if (again) {
      this.#retryIn(0);
      return;
    }
    this.#protocol.problem({ code: "denied", message: `the gateway refused the token: ${reason || code}` });
    this.#retryIn(DENIED_MS);
  }

  #failed(atLeast = 0): void {
    this.#url = (this.#url + 1) % this.#urls.length;
    if (this.#state !== "denied") this.#become("offline");
    this.#retryIn(Math.max(atLeast, this.#delay()));
  }

  /** Full jitter: many clients that lost one gateway come back spread out. */
  #delay(): number {
    const most = this.#of.hidden ? MAX_HIDDEN_DELAY_MS : MAX_DELAY_MS;
    const delay = Math.min(most, FIRST_DELAY_MS * 2 ** Math.min(this.#attempts, 16));
    this.#attempts += 1;
    return this.#of.random() * delay;
  }

  #retryIn(ms: number): void {
    this.#stopRetry();
    this.#offRetry = this.#of.after(ms, () => {
      this.#offRetry = undefined;
      void this.#connect();
    });
  }

  #stopRetry(): void {
    this.#offRetry?.();
    this.#offRetry = undefined;
  }

  /** Lets go of the socket. A dead one would take minutes to close, so nobody waits for it. */
  #drop(code?: number): void {
    this.#attempting = undefined;
    for (const off of [this.#offOpening, this.#offPace, this.#offBeat, this.#offPong]) off?.();
    this.#offOpening = this.#offPace = this.#offBeat = this.#offPong = undefined;
    this.#pinged.clear();
    this.#isOpen = false;
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    try {
      socket.close(code);
    } catch {
      // It was not open.
    }
    this.#protocol.lost();
  }

  /** The page or the network has come back, or may be gone. */
  #wakeUp(): void {
    if (this.#offRetry && this.#state !== "denied") {
      this.#stopRetry();
      void this.#connect();
    } else if (this.#isOpen) {
      this.clock.slept();
      this.#ping();
    }
  }

  #refill(): void {
    const now = this.#of.monotonic();
    const more = ((now - this.#allowedAt) / 1000) * this.#rate.messagesPerSecond;
    this.#allowed = Math.min(this.#rate.messagesBurst, this.#allowed + more);
    this.#allowedAt = now;
  }

  #pump(): void {
    this.#offPace = undefined;
    this.#refill();
    const most = this.#protocol.arrays ? MAX_BATCH : 1;
    while (this.#allowed >= 1) {
      const allowed = Math.min(most, Math.floor(this.#allowed) * this.#rate.requestsPerMessage);
      const requests = this.#protocol.next(allowed);
      this.#sendAll(requests);
      if (requests.length < allowed) return;
    }
    this.#offPace = this.#of.after(Math.max(PACE_MS, 1000 / this.#rate.messagesPerSecond), () => this.#pump());
  }

  #sendAll(requests: readonly string[]): void {
    let batch: string[] = [];
    let bytes = 1;
    const flush = (): void => {
      const [first] = batch;
      this.#allowed -= Math.ceil(batch.length / this.#rate.requestsPerMessage);
      if (first !== undefined) this.#write(batch.length === 1 ? first : `[${batch.join()}]`);
      batch = [];
      bytes = 1;
    };
    for (const request of requests) {
      const more = utf8Length(request) + 1;
      if (!this.#protocol.arrays || bytes + more > this.#rate.maxMessageBytes) flush();
      batch.push(request);
      bytes += more;
    }
    flush();
  }

  #write(text: string): void {
    try {
      this.#socket?.send(text);
    } catch {
      // It is closing; the close follows.
    }
  }

  /** Looks after 25 s whether anything was heard, and measures the clock each minute. */
  #beat(): void {
    const last = Math.max(this.#heard, this.#measured);
    this.#offBeat = this.#of.after(Math.max(1_000, last + SILENCE_MS - this.#of.monotonic()), () => {
      const now = this.#of.monotonic();
      const slept = this.clock.slept();
      if (slept || now - this.#heard >= SILENCE_MS || now - this.#measured >= MEASURE_MS) this.#ping();
      this.#beat();
    });
  }

  #ping(): void {
    if (!this.#protocol.ping) return;
    const now = this.#of.monotonic();
    const id = ++this.#pings;
    this.#measured = now;
    this.#pinged.set(id, now);
    this.send(this.#protocol.ping(id));
    if (!this.#answersPings || this.#offPong) return;
    const look = (): void => {
      this.#offPong = undefined;
      // Any message is a sign of life, also while the pong waits behind others.
      if (this.#heard < now) this.#end(1006, "no sign of life");
    };
    // A page that was held up reads what has come meanwhile before it looks.
    this.#offPong = this.#of.after(PONG_MS, () => (this.#offPong = this.#of.after(0, look)));
  }
}

export function addressOf(url: string): string {
  const base = typeof location === "undefined" ? undefined : location.href;
  const address = new URL(url, base);
  address.protocol = address.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(address.protocol)) throw new TypeError(`${url} is not the address of a gateway`);
  return address.href;
}
