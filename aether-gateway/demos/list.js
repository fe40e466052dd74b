// A list in a field: each part of an item is a key of its own, `PREFIX/ID/PART`, so people change different parts at once.

import { between, byIndex, indexOf } from "./order.js";

const ID = /^[\w-]{1,64}$/;

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("").slice(0, 14);
}

/** The beginning of a text, for messages. */
export function short(text) {
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

export class List {
  #field;
  #prefix;
  #main;
  #defaults;

  /**
   * An item is there while its part `main` is a text. `defaults` are items that are there without any key: nothing has to be
   * written first, and `false` in the place of the text says that one was removed.
   */
  constructor(field, prefix, main, defaults = {}) {
    this.#field = field;
    this.#prefix = prefix;
    this.#main = main;
    this.#defaults = defaults;
  }

  /** All items in their order, as objects with `id`, `order` and the parts that are known. */
  items() {
    const items = new Map(Object.entries(this.#defaults).map(([id, parts]) => [id, { ...parts, id }]));
    for (const [key, value] of this.#field.entries(`${this.#prefix}*`)) {
      const [id, part, ...rest] = key.slice(this.#prefix.length).split("/");
      if (!ID.test(id) || !part || part === "id" || rest.length) continue;
      if (!items.has(id)) items.set(id, { id });
      Object.defineProperty(items.get(id), part, { value, enumerable: true, configurable: true, writable: true });
    }
    const present = [...items.values()].filter((item) => typeof item[this.#main] === "string");
    for (const item of present) item.order = indexOf(item.order);
    return present.sort(byIndex);
  }

  item(id) {
    return this.items().find((item) => item.id === id);
  }

  set(id, part, value) {
    this.#field.set(this.#key(id, part), value);
  }

  /** Adds an item before another one of `among`, or at its end. Returns its id. */
  add(parts, among = this.items(), before) {
    const id = newId();
    const order = indexBefore(among, before);
    this.#field.batch(() => {
      for (const [part, value] of Object.entries({ ...parts, order })) this.set(id, part, value);
    });
    return id;
  }

  /** Moves an item before another one of `among`, or to its end. `parts` change with it. */
  move(id, among, before, parts = {}) {
    const order = indexBefore(among.filter((item) => item.id !== id), before);
    this.#field.batch(() => {
      for (const [part, value] of Object.entries({ ...parts, order })) this.set(id, part, value);
    });
  }

  remove(id) {
    this.#field.batch(() => {
      for (const key of this.#field.keys(`${this.#prefix}${id}/*`)) {
        if (key !== this.#key(id, this.#main) || !this.#isDefault(id)) this.#field.delete(key);
      }
      if (this.#isDefault(id)) this.set(id, this.#main, false);
    });
  }

  /** As it was before anybody wrote. */
  reset() {
    this.#field.batch(() => this.#field.keys(`${this.#prefix}*`).forEach((key) => this.#field.delete(key)));
  }

  /** The id and the part of a key of this list. */
  read(key) {
    return key.startsWith(this.#prefix) ? key.slice(this.#prefix.length).split("/") : undefined;
  }

  #isDefault(id) {
    return Object.hasOwn(this.#defaults, id);
  }

  #key(id, part) {
    return `${this.#prefix}${id}/${part}`;
  }
}

/** An index before the item with this id, or after all. Items at one index stay together. */
function indexBefore(items, before) {
  const found = items.findIndex(({ id }) => id === before);
  const at = found < 0 ? items.length : found;
  const low = items.slice(0, at).findLast(({ order }) => order !== undefined)?.order;
  const high = items.slice(at).find(({ order }) => order !== undefined && (low === undefined || order > low))?.order;
  return between(low, high);
}
