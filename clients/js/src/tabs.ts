/** The tabs of one client: the holder of a Web Lock has the connection, and all talk over a BroadcastChannel. */
import type { FieldEvent } from "./events.js";
import type { Kept } from "./records.js";
import type { Json } from "./types.js";

/** What tabs tell each other. `sequence` counts the changes of the confirmed state. */
export type TabMessage =
  /** From the leader. */
  | { readonly type: "events"; readonly events: readonly FieldEvent[]; readonly sequence: number }
  /** To a tab that asked, or to all (`""`), as a new leader. */
  | { readonly type: "joined"; readonly tab: string; readonly events: readonly FieldEvent[]; readonly sequence: number }
  /** To the leader. */
  | { readonly type: "kept"; readonly writes: readonly Kept[] }
  | { readonly type: "join"; readonly tab: string }
  | { readonly type: "announce"; readonly value: Json; readonly room: string | undefined }
  | { readonly type: "watch-presence" }
  | { readonly type: "retry" };

export interface TabsOwner {
  /** This tab has the lock. */
  lead(): void;
  /** Another tab has it. */
  follow(): void;
  /** This tab has lost the lock, or the page goes. */
  rest(): void;
  message(message: TabMessage): void;
}

/** How a tab talks to the others of its client. */
export interface TabsPort {
  start(): void;
  post(message: TabMessage): void;
  /** Takes the lead from a tab that says nothing. */
  steal(): void;
  stop(): void;
}

export class Tabs implements TabsPort {
  readonly #name: string;
  readonly #owner: TabsOwner;
  readonly #channel: BroadcastChannel;
  readonly #events = new AbortController();
  #waiting: AbortController | undefined;
  #release: (() => void) | undefined;
  #isAway = false;

  /** Undefined where tabs cannot find each other. */
  static open(name: string, owner: TabsOwner): TabsPort | undefined {
    const areThere = typeof navigator === "object" && "locks" in navigator && typeof BroadcastChannel === "function" && typeof document === "object";
    return areThere ? new Tabs(name, owner) : undefined;
  }

  constructor(name: string, owner: TabsOwner) {
    this.#name = name;
    this.#owner = owner;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<TabMessage>) => {
      if (!this.#isAway) this.#owner.message(data);
    };
    const { signal } = this.#events;
    const away = (): void => this.#leave();
    const back = (): void => this.#return();
    addEventListener("pagehide", away, { signal });
    addEventListener("pageshow", back, { signal });
    document.addEventListener("freeze", away, { signal });
    document.addEventListener("resume", back, { signal });
  }

  start(): void {
    void this.#ask({ ifAvailable: true });
  }

  post(message: TabMessage): void {
    if (!this.#isAway) this.#channel.postMessage(message);
  }

  steal(): void {
    this.#waiting?.abort();
    void this.#ask({ steal: true });
  }

  stop(): void {
    this.#events.abort();
    this.#leave();
    this.#channel.close();
  }

  async #ask(options: LockOptions): Promise<void> {
    try {
      await navigator.locks.request(this.#name, options, (lock) => (lock && !this.#isAway ? this.#hold() : this.#wait()));
    } catch (error) {
      // Given up by this tab, or stolen by another one.
      if (!this.#release || (error as Error).name !== "AbortError") return;
      this.#release = undefined;
      this.#owner.rest();
      if (!this.#isAway) this.#wait();
    }
  }

  #hold(): Promise<void> {
    return new Promise((resolve) => {
      this.#release = resolve;
      this.#owner.lead();
    });
  }

  /** Waits in the queue of the lock. */
  #wait(): void {
    if (this.#isAway) return;
    this.#owner.follow();
    this.#waiting = new AbortController();
    void this.#ask({ signal: this.#waiting.signal });
  }

  #leave(): void {
    if (this.#isAway) return;
    this.#isAway = true;
    this.#waiting?.abort();
    const release = this.#release;
    this.#release = undefined;
    this.#owner.rest();
    release?.();
  }

  #return(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.start();
  }
}
