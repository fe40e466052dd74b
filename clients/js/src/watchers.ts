/** Lists of callbacks. One that throws is reported and disturbs neither the others nor the client. */
import type { Off } from "./types.js";

/** Reports an error of a callback as an uncaught one, where the surroundings can. */
export function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}

export class Watchers<T> {
  readonly #callbacks = new Set<{ readonly call: (value: T) => void }>();

  get size(): number {
    return this.#callbacks.size;
  }

  /** @throws TypeError if it is not a function. */
  add(call: (value: T) => void): Off {
    if (typeof call !== "function") throw new TypeError("the callback is not a function");
    // An object of its own, so that the same function may be there twice.
    const entry = { call };
    this.#callbacks.add(entry);
    return () => {
      this.#callbacks.delete(entry);
    };
  }

  call(value: T): void {
    for (const entry of [...this.#callbacks]) {
      if (!this.#callbacks.has(entry)) continue;
      try {
        entry.call(value);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** Callbacks by name. */
export class NamedWatchers<T> {
  readonly #names = new Map<string, Watchers<T>>();

  get size(): number {
    return this.#names.size;
  }

  names(): Iterable<string> {
    return this.#names.keys();
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  add(name: string, call: (value: T) => void): Off {
    const watchers = this.#names.get(name) ?? new Watchers<T>();
    const off = watchers.add(call);
    this.#names.set(name, watchers);
    return () => {
      off();
      if (!watchers.size && this.#names.get(name) === watchers) this.#names.delete(name);
    };
  }

  call(name: string, value: () => T): void {
    const watchers = this.#names.get(name);
    if (watchers) watchers.call(value());
  }
}
