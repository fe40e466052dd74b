/** The tabs of one client: the holder of a Web Lock has the connection, and all talk over a BroadcastChannel. */
import type { FieldEvent } from "./events.js";
import type { Kept } from "./records.js";
import type { Json } from "./types.js";

/** A participant that a tab is; without a value, that it was. */
export interface Announcement {
  readonly type: "announce";
  readonly tab: string;
  /** Names it among the participants of the client. */
  readonly as: string;
  readonly value: Json;
  readonly room: string | undefined;
}

/** What tabs tell each other. `sequence` counts the changes of the confirmed state. */
export type TabMessage =
  /** From the leader. */
  | { readonly type: "events"; readonly events: readonly FieldEvent[]; readonly sequence: number }
  /** To a tab that asked, or to all (`""`), as a new leader. `isComplete`: the leader has all entries, not those of a storage that lacks some. */
  | { readonly type: "joined"; readonly tab: string; readonly events: readonly FieldEvent[]; readonly sequence: number; readonly isComplete: boolean }
  /** To the leader. */
  | { readonly type: "kept"; readonly writes: readonly Kept[] }
  | { readonly type: "join"; readonly tab: string }
  /** To all. */
  | Announcement
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
  /** Resolves once others can watch this tab, by this name: before that they would see it go. */
  appear(tab: string): Promise<void>;
  /** Calls back once a tab has gone, unless this one goes first. */
  watch(tab: string, gone: () => void): void;
  stop(): void;
}

export class Tabs implements TabsPort {
  readonly #name: string;
  readonly #owner: TabsOwner;
  readonly #channel: BroadcastChannel;
  readonly #events = new AbortController();
  #waiting: AbortController | undefined;
  /** Aborted when the page goes: one that holds a lock could not come back. */
  #here = new AbortController();
  #seen: Promise<void> | undefined;
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

  appear(tab: string): Promise<void> {
    const { signal } = this.#here;
    return (this.#seen ??= new Promise((seen) => {
      this.#named(tab, () => {
        seen();
        return new Promise((resolve) => signal.addEventListener("abort", resolve));
      });
    }));
  }

  watch(tab: string, gone: () => void): void {
    this.#named(tab, gone);
  }

  /** A tab that is there holds the lock of its name. */
  #named(tab: string, held: () => unknown): void {
    const { signal } = this.#here;
    navigator.locks.request(`${this.#name} ${tab}`, { signal }, async () => void (await held())).catch(() => {});
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
    this.#here.abort();
    this.#seen = undefined;
    this.#waiting?.abort();
    const release = this.#release;
    this.#release = undefined;
    this.#owner.rest();
    release?.();
  }

  #return(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#here = new AbortController();
    this.start();
  }
}
