// The cache of protocol 0.4 in `localStorage`: what a page shows before the client has read anything else.

const VERSION = 1;
const DELAY_MS = 80;

export class Cache {
  readonly #key: string;
  readonly #content: () => object;
  #store: Storage | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Without `enabled`, and where there is no storage, it keeps nothing. */
  constructor(key: string, enabled: boolean, content: () => object) {
    this.#key = key;
    this.#content = content;
    this.#store = enabled ? storage() : undefined;
  }

  /** What was kept; `undefined` if there is nothing that this version can read. A damaged cache is removed. */
  load(): [string, unknown][] | undefined {
    try {
      const text = this.#store?.getItem(this.#key);
      if (!text) return undefined;
      const { v, data } = JSON.parse(text);
      return v === VERSION && typeof data === "object" && data ? Object.entries(data) : undefined;
    } catch {
      this.clear();
      return undefined;
    }
  }

  /** Keeps the content soon. */
  save(): void {
    if (this.#store) this.#timer ??= setTimeout(() => this.flush(), DELAY_MS);
  }

  /** Keeps the content now, if it is to be kept. */
  flush(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    try {
      this.#store?.setItem(this.#key, JSON.stringify({ v: VERSION, data: this.#content() }));
    } catch {
      // It is full, or was switched off. The state is in memory all the same.
      this.#store = undefined;
    }
  }

  clear(): void {
    try {
      this.#store?.removeItem(this.#key);
    } catch {
      this.#store = undefined;
    }
  }
}

function storage(): Storage | undefined {
  try {
    return typeof window === "undefined" ? undefined : window.localStorage;
  } catch {
    return undefined;
  }
}
