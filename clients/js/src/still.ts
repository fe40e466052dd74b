// Reads the text of `dehydrate()`: a field that stands still, for the server and for a page that shows what the server did.
import type { Counter, Field, Json, Member, Members, Status } from "./types.js";

/** The part of a field that is read in one moment. */
export interface Readable extends Pick<Field, "get" | "entries" | "status" | "pending"> {
  counter(name: string): Pick<Counter, "value">;
  members(name: string): Pick<Members, "values">;
  readonly presence: { others(room?: string): ReadonlyMap<string, Json> };
}

/**
 * The field over what the server has rendered, which shows through where the field has nothing, until it has data. What this
 * page has changed or deleted before does not come back. Without a field it is what the server has rendered.
 */
export function over(field: Field | undefined, server: Readable, initial: string | undefined): Readable {
  if (!field || initial === undefined) return field ?? server;
  let done = false;
  const changed = new Set<string>();
  const off = field.on("*", ({ key }) => changed.add(key));
  const finish = (): void => {
    done = true;
    off();
  };
  field.ready().then(finish, finish);
  return {
    get(key) {
      const value = field.get(key);
      return value !== undefined || done || changed.has(key) ? value : server.get(key);
    },
    entries(pattern) {
      const entries = field.entries(pattern);
      return done ? entries : [...new Map([...server.entries(pattern).filter(([key]) => !changed.has(key)), ...entries])];
    },
    counter(name) {
      const { value } = field.counter(name);
      return value || done ? { value } : server.counter(name);
    },
    members(name) {
      const members = field.members(name);
      return members.values().length || done ? members : server.members(name);
    },
    presence: field.presence,
    get status() {
      return field.status;
    },
    get pending() {
      return field.pending;
    },
  };
}

interface Entry {
  readonly key?: string;
  readonly value?: unknown;
  readonly counter?: string;
  readonly sum?: number | string;
  readonly set?: string;
  readonly member?: string | { readonly base64: string };
}

const NOBODY: ReadonlyMap<string, Json> = new Map();
const NOTHING: readonly Member[] = [];

/** @throws SyntaxError if it is not such a text. */
export function still(text: string | undefined): Readable {
  const values = new Map<string, unknown>();
  const sums = new Map<string, number | bigint>();
  const sets = new Map<string, Member[]>();
  const entries: readonly Entry[] = text ? JSON.parse(text).entries : [];
  for (const { key, value, counter, sum = 0, set, member } of entries) {
    if (key !== undefined) values.set(key, value);
    if (counter !== undefined) sums.set(counter, typeof sum === "string" ? BigInt(sum) : sum);
    if (set !== undefined && member !== undefined) {
      const list = sets.get(set) ?? [];
      list.push(typeof member === "string" ? member : Uint8Array.from(atob(member.base64), (char) => char.charCodeAt(0)));
      sets.set(set, list);
    }
  }
  return {
    get: (key) => values.get(key) as never,
    entries: (pattern = "*") => [...values].filter(([key]) => (pattern.endsWith("*") ? key.startsWith(pattern.slice(0, -1)) : key === pattern)),
    counter: (name) => ({ value: sums.get(name) ?? 0 }),
    members: (name) => ({ values: () => sets.get(name) ?? NOTHING }),
    presence: { others: () => NOBODY },
    status: "connecting" as Status,
    pending: 0,
  };
}
