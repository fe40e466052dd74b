// Presence among the tabs of a page: they share a connection, so the gateway sees one participant, and they see each other here.

interface Message {
  readonly type: "presence" | "presence-leave";
  /** The tab, which is the participant as well. */
  readonly from: string;
  readonly x?: number;
  readonly y?: number;
}

export class Siblings {
  /** Not a secret: it only tells tabs apart. */
  readonly #id = `tab-${Math.random().toString(36).slice(2)}`;
  readonly #channel: BroadcastChannel | undefined;
  readonly #leave = (): void => this.#leaves();
  #announced = false;

  /** Does nothing outside of pages. */
  constructor(url: string, met: (id: string, x: number, y: number) => void, left: (id: string) => void) {
    this.#channel = channelOf(`aether::${url}`);
    if (!this.#channel) return;
    this.#channel.onmessage = ({ data }: MessageEvent<Partial<Message> | null>) => {
      const { type, from, x, y } = data ?? {};
      if (typeof from !== "string" || from === this.#id) return;
      if (type === "presence" && typeof x === "number" && typeof y === "number") met(from, x, y);
      else if (type === "presence-leave") left(from);
    };
    addEventListener("pagehide", this.#leave);
  }

  announce(x: number, y: number): void {
    this.#announced = true;
    this.#post({ type: "presence", from: this.#id, x, y });
  }

  close(): void {
    if (!this.#channel) return;
    this.#leaves();
    removeEventListener("pagehide", this.#leave);
    this.#channel.close();
  }

  #leaves(): void {
    if (this.#announced) this.#post({ type: "presence-leave", from: this.#id });
    this.#announced = false;
  }

  #post(message: Message): void {
    try {
      this.#channel?.postMessage(message);
    } catch {
      // It was closed.
    }
  }
}

function channelOf(name: string): BroadcastChannel | undefined {
  try {
    return typeof document === "undefined" ? undefined : new BroadcastChannel(name);
  } catch {
    return undefined;
  }
}
