/**
 * The view of a tab: the confirmed state with the own unconfirmed writes on top. It compares before and after, so
 * each change is reported once, and a value stays the same object as long as it is equal.
 */
import { equal } from "./json.js";
import { counterSlot, exact, isBelow, isLater, join, matches, nameOf, memberSlot, net, readMember, registerSlot, slotOf, type Cursor, type Draft, type Entry, type Kept, type Sums, type WireMember } from "./records.js";
import type { By, Change, Member } from "./types.js";

/** An own write that is not confirmed yet. */
export interface Own {
  readonly slot: string;
  write: Draft | Kept;
  /** Undefined until it is kept. */
  op: number | undefined;
  readonly value: unknown;
  /** What a `count` adds and takes, until the gateway has it. */
  amounts: Sums;
  /** The version that the gateway gave it. */
  version: string | undefined;
}

interface Register {
  readonly value: unknown;
  readonly version: string | undefined;
}

interface SetMember {
  readonly member: WireMember;
  readonly version: string | undefined;
}

/** A counter: what others have made of it, and what the gateway has of this client. */
interface Counter {
  readonly others: bigint;
  readonly own: Sums;
}

const NOTHING: Sums = { up: 0n, down: 0n };

/** Everything confirmed. */
class State {
  readonly registers = new Map<string, Register>();
  readonly counters = new Map<string, Counter>();
  readonly sets = new Map<string, Map<string, SetMember>>();
}

/** A snapshot that is being received. */
interface Building {
  readonly state: State;
  /** The names that it covers. */
  readonly patterns: readonly string[];
  readonly isWhole: boolean;
  readonly values: Map<string, unknown>;
  readonly differs: string[];
  /** Keys that changed in another way than by a part. */
  readonly touched: Set<string>;
}

export interface Changes {
  readonly registers: readonly Change[];
  readonly counters: readonly string[];
  readonly sets: readonly string[];
}

export class View {
  /** The visible values of registers. */
  values = new Map<string, unknown>();
  cursor: Cursor | undefined;
  /** Counts the changes of the confirmed state that tabs tell each other of. */
  sequence = 0;
  #state = new State();
  #building: Building | undefined;
  /** Own writes by the id of the draft, and by number. */
  readonly #owns = new Map<string, Own>();
  readonly #ops = new Map<number, Own>();
  /** The own writes of a slot, in their order. */
  readonly #slots = new Map<string, Own[]>();
  /** The own writes of each set. */
  readonly #setOwns = new Map<string, Set<Own>>();
  /** What was visible before, of what has changed since the last call of `changes`. */
  readonly #before = new Map<string, { readonly old: unknown; by: By }>();
  readonly #sumsBefore = new Map<string, number | bigint>();
  readonly #setsBefore = new Map<string, readonly Member[]>();
  readonly #lists = new Map<string, readonly Member[]>();
  /** The names whose confirmed entries change after an ack: those that are subscribed. */
  covers: (name: string) => boolean = () => true;
  /** The keys whose changes by a snapshot are reported. */
  isWatched: (key: string) => boolean = () => true;

  get pending(): number {
    return this.#owns.size;
  }

  own(op: number): Own | undefined {
    return this.#ops.get(op);
  }

  /** The own writes, in the order of their numbers. */
  owns(): Iterable<Own> {
    return this.#owns.values();
  }

  /** The version that a reader of this slot has seen. Beneath an own write nobody sees anything. */
  seen(slot: string, name: string): string | null {
    const { registers, sets } = this.#state;
    const confirmed = slot.startsWith("r") ? registers.get(name)?.version : sets.get(name)?.get(slot)?.version;
    const own = this.#top(slot, confirmed);
    return own ? (own.version ?? own.write.replaces) : (confirmed ?? null);
  }

  /** The version of a visible value; undefined while it is of an own write. */
  visibleVersion(key: string): string | undefined {
    const register = this.#state.registers.get(key);
    return this.#top(registerSlot(key), register?.version) ? undefined : register?.version;
  }

  sum(name: string): number | bigint {
    const { others, own } = this.#counter(name);
    const [kept, drafts] = [{ ...NOTHING }, { ...NOTHING }];
    let all = NOTHING;
    for (const { amounts, write } of this.#slots.get(counterSlot(name)) ?? []) {
      const isKept = "up" in write;
      if (isKept) all = { up: write.up ?? 0n, down: write.down ?? 0n };
      const some = isKept ? kept : drafts;
      some.up += amounts.up;
      some.down += amounts.down;
    }
    // The gateway may have some of it. A refused one is in the sums of those after it.
    const least = (one: bigint, other: bigint): bigint => (one < other ? one : other);
    const told = join(own, { up: least(all.up, own.up + kept.up), down: least(all.down, own.down + kept.down) });
    return exact(others + net(told) + net(drafts));
  }

  members(name: string): readonly Member[] {
    let list = this.#lists.get(name);
    if (!list) {
      const members = new Map<string, WireMember>();
      for (const [slot, { member }] of this.#state.sets.get(name) ?? []) members.set(slot, member);
      for (const own of this.#setOwns.get(name) ?? []) {
        const { member, kind } = own.write;
        if (member === undefined || own.version !== undefined) continue;
        if (kind === "insert") members.set(own.slot, member);
        else members.delete(own.slot);
      }
      list = Object.freeze([...members.values()].map(readMember));
      this.#lists.set(name, list);
    }
    return list;
  }

  hasMember(name: string, member: WireMember): boolean {
    const slot = memberSlot(name, member);
    const own = last(this.#slots.get(slot));
    if (own && own.version === undefined) return own.write.kind === "insert";
    return this.#state.sets.get(name)?.has(slot) ?? false;
  }

  /** The confirmed entry of a slot, for the storage; one that is not there any more says so. */
  entry(slot: string): Entry {
    const name = slot.slice(1);
    if (slot.startsWith("r")) return { key: name, ...this.#state.registers.get(name) } as Entry;
    if (slot.startsWith("c")) return counterEntry(name, this.#counter(name));
    const [set, member] = JSON.parse(name) as [string, WireMember];
    const found = this.#state.sets.get(set)?.get(slot);
    return { set, member, present: found !== undefined, ...found } as Entry;
  }

  /** All confirmed entries whose names match. */
  *confirmed(pattern = "*"): Generator<Entry> {
    const { registers, counters, sets } = this.#state;
    for (const [key, register] of registers) {
      if (register.value !== undefined && matches(pattern, key)) yield { key, ...register } as Entry;
    }
    for (const [name, counter] of counters) if (matches(pattern, name)) yield counterEntry(name, counter);
    for (const [set, members] of sets) {
      if (matches(pattern, set)) for (const found of members.values()) yield { set, present: true, ...found } as Entry;
    }
  }

  // Own writes.

  /** Puts an own write on top. `value` is the one of a `set`. */
  add(write: Draft | Kept, value: unknown, by: By): void {
    const op = "op" in write ? write.op : undefined;
    if (this.#owns.has(write.id)) {
      if ("op" in write) this.number(write);
      return;
    }
    const own: Own = { slot: slotOf(write), write, op, value, amounts: amountsOf(write), version: undefined };
    this.#note(own);
    this.#owns.set(write.id, own);
    if (op !== undefined) this.#ops.set(op, own);
    const owns = this.#slots.get(own.slot);
    if (owns) this.#place(owns, own);
    else this.#slots.set(own.slot, [own]);
    if (write.member !== undefined) {
      const ofSet = this.#setOwns.get(write.name) ?? new Set();
      this.#setOwns.set(write.name, ofSet.add(own));
    }
    this.#refresh(own, by);
  }

  /** A write of the storage. A count there has the amounts of those that it replaced. */
  stored(write: Kept, value: unknown): void {
    this.add(write, value, "tab");
    const own = this.#ops.get(write.op);
    if (!own || own.version !== undefined || write.amount === undefined) return;
    this.#note(own);
    own.write = write;
    own.amounts = amountsOf(write);
  }

  /** Gives a write its number. Returns whether it is still here. */
  number(write: Kept): boolean {
    const { id, op } = write;
    const own = this.#owns.get(id);
    if (own && own.op === undefined) {
      own.write = write;
      own.op = op;
      this.#ops.set(op, own);
      const owns = this.#slots.get(own.slot) ?? [];
      if (owns.length > 1) {
        this.#note(own);
        owns.splice(owns.indexOf(own), 1);
        this.#place(owns, own);
        this.#refresh(own, "tab");
      }
    }
    return own !== undefined;
  }

  /** A later write takes the place of one that was not sent. */
  replaced(op: number, by: number): Own | undefined {
    const own = this.#ops.get(op);
    const later = this.#ops.get(by);
    if (!own) return undefined;
    this.#note(own);
    if (later) later.amounts = { up: later.amounts.up + own.amounts.up, down: later.amounts.down + own.amounts.down };
    this.#remove(own);
    this.#refresh(own, "me");
    return own;
  }

  /**
   * The gateway has a write. `counted`: everything that the gateway has of this client in a counter. `isNew`: the gateway has
   * it from now on; one that was sent again may have been undone by others since, so that only entries tell.
   */
  acked(op: number, version: string, counted: Sums | undefined, isNew: boolean): void {
    const own = this.#ops.get(op);
    if (!own) return;
    const { name, kind, member } = own.write;
    this.#note(own);
    if (isNew || member === undefined) own.version = version;
    own.amounts = NOTHING;
    if (this.covers(name)) {
      if (counted) {
        this.#count(this.#state, name, counted);
        if (this.#isAside(name)) this.#count(this.#building?.state, name, counted);
      } else if (isNew) {
        const entry = (member === undefined ? { key: name, value: own.value, version } : { set: name, member, present: kind === "insert", version }) as Entry;
        this.#put(this.#state, entry, true);
        this.#putAside(entry);
      }
    }
    this.#refresh(own, "remote");
  }

  #counter(name: string): Counter {
    return this.#state.counters.get(name) ?? { others: 0n, own: NOTHING };
  }

  /** The gateway has this much of the client in a counter; an entry on its way may be older. */
  #count(state: State | undefined, name: string, own: Sums, others?: bigint): void {
    const before = state?.counters.get(name);
    state?.counters.set(name, { others: others ?? before?.others ?? 0n, own: join(own, before?.own ?? own) });
  }

  /** A write is at its end: it was confirmed, or refused. */
  done(op: number, by: By): Own | undefined {
    const own = this.#ops.get(op);
    if (own) this.drop(own, by);
    return own;
  }

  /** Takes an own write away, also one without a number. */
  drop(own: Own, by: By): void {
    if (!this.#owns.has(own.write.id)) return;
    this.#note(own);
    this.#remove(own);
    this.#refresh(own, by);
  }

  // Confirmed state.

  /** Changes of the gateway. */
  apply(entries: readonly Entry[], cursor?: Cursor): void {
    for (const entry of entries) this.#take(entry);
    // Who lacks a snapshot is not complete with what comes after it.
    if (cursor && cursor.epoch === this.cursor?.epoch) this.cursor = cursor;
  }

  /** Whether the first part of a snapshot has come, and the last one has not. */
  get isBuilding(): boolean {
    return this.#building !== undefined;
  }

  /** A part of a snapshot. The view changes with the last one. */
  part(entries: readonly Entry[], first: boolean, done: boolean, patterns: readonly string[] | undefined, cursor: Cursor | undefined): void {
    if (first) this.#building = { state: new State(), patterns: patterns ?? ["*"], isWhole: !patterns, values: new Map(), differs: [], touched: new Set() };
    if (!this.#building) return;
    const { state, values, differs } = this.#building;
    for (const entry of entries) {
      this.#put(state, entry, false);
      if (patterns || !("key" in entry)) continue;
      const value = state.registers.get(entry.key)?.value;
      if (value === undefined) continue;
      const old = this.values.get(entry.key);
      const same = equal(old, value);
      values.set(entry.key, same ? old : value);
      if (!same) differs.push(entry.key);
    }
    if (done) this.#swap(this.#building, cursor);
  }

  /** The socket is gone, and with it the rest of a snapshot. */
  abandon(): void {
    this.#building = undefined;
  }

  /** What has changed since the last call. */
  changes(): Changes | undefined {
    if (!this.#before.size && !this.#sumsBefore.size && !this.#setsBefore.size) return undefined;
    const registers: Change[] = [];
    for (const [key, { old, by }] of this.#before) {
      const value = this.values.get(key);
      if (equal(old, value)) continue;
      registers.push({ key, value, old, version: this.visibleVersion(key), by });
    }
    const counters = [...this.#sumsBefore].filter(([name, sum]) => this.sum(name) !== sum).map(([name]) => name);
    const sets: string[] = [];
    for (const [name, old] of this.#setsBefore) {
      const now = this.members(name);
      if (old.length !== now.length || old.some((member, at) => !equal(wire(member), wire(now[at])))) sets.push(name);
      else this.#lists.set(name, old);
    }
    this.#before.clear();
    this.#sumsBefore.clear();
    this.#setsBefore.clear();
    return { registers, counters, sets };
  }

  #take(entry: Entry): void {
    if ("key" in entry) {
      this.#put(this.#state, entry, true);
      this.#refreshKey(entry.key, "remote");
    } else if ("counter" in entry) {
      this.#noteSum(entry.counter);
      this.#put(this.#state, entry, true);
    } else {
      this.#noteSet(entry.set);
      this.#put(this.#state, entry, true);
    }
    this.#putAside(entry);
  }

  /** Puts an entry in the snapshot that is being received, whose part with it may have been older. */
  #putAside(entry: Entry): void {
    if (!this.#building || !this.#isAside(nameOf(entry))) return;
    this.#put(this.#building.state, entry, true);
    if ("key" in entry) this.#building.touched.add(entry.key);
  }

  #isAside(name: string): boolean {
    return this.#building !== undefined && isBelow(this.#building.patterns, name);
  }

  /** Puts an entry in a state. `marks`: keeps removals, so that older changes that are still on their way do not undo them. */
  #put(state: State, entry: Entry, marks: boolean): void {
    if ("key" in entry) {
      const { key, value, version } = entry;
      const present = state.registers.get(key);
      if (present && version !== undefined && !isLater(version, present.version)) return;
      if (value === undefined && !(marks && version !== undefined)) state.registers.delete(key);
      else state.registers.set(key, { value, version });
    } else if ("counter" in entry) {
      const { counter, sum, own = NOTHING } = entry;
      this.#count(state, counter, own, BigInt(sum) - net(own));
    } else {
      const { set, member, present, version } = entry;
      const members = state.sets.get(set) ?? new Map<string, SetMember>();
      const slot = memberSlot(set, member);
      if (present) members.set(slot, { member, version });
      else members.delete(slot);
      if (members.size) state.sets.set(set, members);
      else state.sets.delete(set);
    }
  }

  #swap({ state, patterns, isWhole, values, differs, touched }: Building, cursor: Cursor | undefined): void {
    this.#building = undefined;
    this.cursor = cursor;
    for (const name of [...this.#state.counters.keys(), ...state.counters.keys()]) this.#noteSum(name);
    for (const name of [...this.#state.sets.keys(), ...state.sets.keys()]) this.#noteSet(name);
    if (!isWhole) {
      this.#merge(state, patterns);
      return;
    }
    const old = this.values;
    this.#state = state;
    this.values = values;
    for (const slot of this.#slots.keys()) if (slot.startsWith("r")) touched.add(slot.slice(1));
    for (const key of touched) this.#show(key, old);
    const noteIfNew = (key: string): void => {
      if (!this.#before.has(key) && this.isWatched(key)) this.#before.set(key, { old: old.get(key), by: "remote" });
    };
    differs.forEach(noteIfNew);
    for (const key of old.keys()) if (!values.has(key)) noteIfNew(key);
    touched.forEach(noteIfNew);
  }

  /** Makes the visible value of a key right after a snapshot, with the old object if it is equal. */
  #show(key: string, old: Map<string, unknown>): void {
    const now = this.#visible(key);
    const before = old.get(key);
    if (now === undefined) this.values.delete(key);
    else this.values.set(key, equal(before, now) ? before : now);
  }

  #merge(state: State, patterns: readonly string[]): void {
    const isOf = (name: string): boolean => isBelow(patterns, name);
    const { registers, counters, sets } = this.#state;
    for (const key of [...registers.keys()].filter(isOf)) {
      if (!state.registers.has(key)) registers.delete(key);
      this.#refreshKey(key, "remote");
    }
    for (const [key, register] of state.registers) {
      registers.set(key, register);
      this.#refreshKey(key, "remote");
    }
    for (const name of [...counters.keys()].filter(isOf)) counters.delete(name);
    for (const [name, counter] of state.counters) counters.set(name, counter);
    for (const name of [...sets.keys()].filter(isOf)) sets.delete(name);
    for (const [name, members] of state.sets) sets.set(name, members);
  }

  #place(owns: Own[], own: Own): void {
    const { op } = own;
    const at = op === undefined ? -1 : owns.findIndex((other) => other.op === undefined || other.op > op);
    if (at < 0) owns.push(own);
    else owns.splice(at, 0, own);
  }

  #remove(own: Own): void {
    this.#owns.delete(own.write.id);
    if (own.op !== undefined) this.#ops.delete(own.op);
    const owns = (this.#slots.get(own.slot) ?? []).filter((other) => other !== own);
    if (owns.length) this.#slots.set(own.slot, owns);
    else this.#slots.delete(own.slot);
    const { name } = own.write;
    const ofSet = this.#setOwns.get(name);
    if (ofSet?.delete(own) && !ofSet.size) this.#setOwns.delete(name);
  }

  /** The own write that hides the confirmed value with this version. */
  #top(slot: string, version: string | undefined): Own | undefined {
    const own = last(this.#slots.get(slot));
    return own && (own.version === undefined || isLater(own.version, version)) ? own : undefined;
  }

  #visible(key: string): unknown {
    const register = this.#state.registers.get(key);
    const own = this.#top(registerSlot(key), register?.version);
    return own ? own.value : register?.value;
  }

  #note({ write: { kind, name, member } }: Own): void {
    if (kind === "count") this.#noteSum(name);
    else if (member !== undefined) this.#noteSet(name);
  }

  #refresh({ write: { kind, name, member } }: Own, by: By): void {
    if (kind !== "count" && member === undefined) this.#refreshKey(name, by);
  }

  #noteSum(name: string): void {
    if (!this.#sumsBefore.has(name)) this.#sumsBefore.set(name, this.sum(name));
  }

  #noteSet(name: string): void {
    if (!this.#setsBefore.has(name)) this.#setsBefore.set(name, this.members(name));
    this.#lists.delete(name);
  }

  #refreshKey(key: string, by: By): void {
    const old = this.values.get(key);
    const now = this.#visible(key);
    if (equal(old, now)) return;
    const noted = this.#before.get(key);
    if (noted) noted.by = by;
    else this.#before.set(key, { old, by });
    if (now === undefined) this.values.delete(key);
    else this.values.set(key, now);
  }
}

function counterEntry(counter: string, { others, own }: Counter): Entry {
  return { counter, sum: exact(others + net(own)), own };
}

function amountsOf({ amount = 0n }: Draft): Sums {
  return amount < 0n ? { up: 0n, down: -amount } : { up: amount, down: 0n };
}

function last<T>(list: readonly T[] | undefined): T | undefined {
  return list?.[list.length - 1];
}

function wire(member: Member | undefined): unknown {
  return member instanceof Uint8Array ? [...member] : member;
}
