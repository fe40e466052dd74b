/**
 * The writes that the gateway has not confirmed, in the tab with the connection. Of one register, counter or member, one
 * write is under way; of those that wait behind it, the newest takes the place of the others.
 */
import { request, slotOf, type Kept } from "./records.js";

interface Item {
  write: Kept;
  readonly slot: string;
  state: "waiting" | "sent" | "acked";
  bytes: number;
  /** Whether the confirmed state may have it already: it was sent before, or a snapshot came since it was sent. */
  mayBeKnown: boolean;
  /** Whether its time was corrected. */
  restamped: boolean;
}

interface Slot {
  /** The one that was sent and not answered. */
  current: Item | undefined;
  /** The one that was never sent. */
  next: Item | undefined;
}

export interface OutboxOwner {
  /** A write took the place of another one. */
  replaced(old: Kept, by: Kept): void;
  /** A write has changed since it was kept. */
  changed(write: Kept): void;
}

/** What may be on its way to the gateway without an answer; a slow connection fills no memory. */
const MAX_UNANSWERED_BYTES = 1 << 20;

export class Outbox {
  readonly #items = new Map<number, Item>();
  readonly #slots = new Map<string, Slot>();
  #ready: Item[] = [];
  #unanswered = 0;

  constructor(
    private readonly owner: OutboxOwner,
    private readonly durable: boolean,
  ) {}

  /** `mayHaveBeenSent`: it comes from the storage. */
  add(write: Kept, mayHaveBeenSent = false): void {
    if (this.#items.has(write.op)) return;
    const item: Item = { write, slot: slotOf(write), state: "waiting", bytes: 0, mayBeKnown: mayHaveBeenSent, restamped: false };
    const slot = this.#slots.get(item.slot) ?? { current: undefined, next: undefined };
    this.#slots.set(item.slot, slot);
    const later = [slot.next, slot.current].find((other) => other && other.write.op > write.op);
    if (later) {
      // Another tab was faster with a later one.
      this.#replace(item, later);
      return;
    }
    this.#items.set(write.op, item);
    if (slot.next) this.#replace(slot.next, item);
    slot.next = item;
    if (!slot.current) this.#ready.push(item);
  }

  /** At most `most` requests that may be sent now. */
  next(most: number, sent: (op: number) => void): string[] {
    const requests: string[] = [];
    let at = 0;
    for (; at < this.#ready.length && requests.length < most && this.#unanswered < MAX_UNANSWERED_BYTES; at++) {
      const item = this.#ready[at];
      if (!item || this.#items.get(item.write.op) !== item || item.state !== "waiting") continue;
      const slot = this.#slots.get(item.slot);
      if (!slot) continue;
      if (slot.next === item) slot.next = undefined;
      slot.current = item;
      item.state = "sent";
      const text = request(item.write, this.durable);
      item.bytes = text.length;
      this.#unanswered += item.bytes;
      requests.push(text);
      sent(item.write.op);
    }
    this.#ready = at < this.#ready.length ? this.#ready.slice(at) : [];
    return requests;
  }

  /** A snapshot has come: it may have everything that was sent. */
  snapshot(): void {
    for (const { current } of this.#slots.values()) if (current) current.mayBeKnown = true;
  }

  /** The gateway has a write. Returns it, and whether it is certainly not in the confirmed state. */
  acked(op: number, version: string): { readonly write: Kept; readonly isNew: boolean } | undefined {
    const item = this.#items.get(op);
    if (!item || item.state !== "sent") return undefined;
    this.#answered(item);
    item.state = "acked";
    this.#release(item, (next) => ({ ...next, replaces: version }));
    return { write: item.write, isNew: !item.mayBeKnown };
  }

  /** It is confirmed. Returns false if it is not known. */
  done(op: number): boolean {
    const item = this.#items.get(op);
    if (!item) return false;
    if (item.state === "sent") {
      this.#answered(item);
      this.#release(item, (next) => next);
    }
    return this.#items.delete(op);
  }

  /** Whether it was sent before this connection. */
  isOld(op: number): boolean {
    return this.#items.get(op)?.mayBeKnown ?? false;
  }

  /** The gateway will take it later: `again` sends it. */
  hold(op: number): void {
    const item = this.#items.get(op);
    if (item?.state === "sent") this.#answered(item);
  }

  /** Sends a write that is held again, unchanged. */
  again(op: number): void {
    const item = this.#items.get(op);
    if (!item || item.state !== "sent") return;
    item.mayBeKnown = true;
    item.state = "waiting";
    this.#ready.push(item);
  }

  /** Gives a write that nobody has seen another time, once. Returns false if it had been given one. */
  restamp(op: number, at: number): boolean {
    const item = this.#items.get(op);
    if (!item || item.restamped) return false;
    item.restamped = true;
    item.write = { ...item.write, at };
    this.owner.changed(item.write);
    this.hold(op);
    this.again(op);
    return true;
  }

  /** The gateway refused it for good. Returns it. */
  refused(op: number): Kept | undefined {
    const item = this.#items.get(op);
    if (!item) return undefined;
    const { write } = item;
    if (item.state === "sent") this.#answered(item);
    this.#items.delete(op);
    const back = write.amount ?? 0n;
    this.#release(item, (next) => {
      if (next.amount === undefined) return { ...next, replaces: write.replaces };
      const changed = { ...next, up: (next.up ?? 0n) - (back > 0n ? back : 0n), down: (next.down ?? 0n) + (back < 0n ? back : 0n) };
      this.owner.changed(changed);
      return changed;
    });
    return write;
  }

  /** The connection is new: everything without an answer, and what may not be on a disk, is sent again. */
  restart(): void {
    this.#unanswered = 0;
    // Latest first: the latest acknowledged write of a slot replaces the earlier ones.
    for (const item of [...this.#items.values()].sort((a, b) => b.write.op - a.write.op)) {
      if (item.state === "waiting") continue;
      const slot = this.#slots.get(item.slot) ?? { current: undefined, next: undefined };
      this.#slots.set(item.slot, slot);
      const wasAcked = item.state === "acked";
      item.state = "waiting";
      item.mayBeKnown = true;
      if (!wasAcked) continue;
      const later = slot.current ?? slot.next;
      if (later) {
        this.#items.delete(item.write.op);
        this.#replace(item, later);
      } else {
        slot.current = item;
      }
    }
    const first = [...this.#slots.values()].map(({ current, next }) => current ?? next);
    this.#ready = first.filter((item): item is Item => item !== undefined).sort((a, b) => a.write.op - b.write.op);
  }

  #replace(old: Item, by: Item): void {
    this.#items.delete(old.write.op);
    const { amount } = old.write;
    if (amount !== undefined) {
      by.write = { ...by.write, amount: (by.write.amount ?? 0n) + amount };
      this.owner.changed(by.write);
    }
    this.owner.replaced(old.write, by.write);
  }

  #answered(item: Item): void {
    this.#unanswered -= item.bytes;
    item.bytes = 0;
  }

  /** The next write of the slot may go. */
  #release(item: Item, change: (next: Kept) => Kept): void {
    const slot = this.#slots.get(item.slot);
    if (!slot) return;
    if (slot.current === item) slot.current = undefined;
    if (slot.next === item) slot.next = undefined;
    if (slot.next && !slot.current) {
      slot.next.write = change(slot.next.write);
      this.#ready.push(slot.next);
    } else if (!slot.current) {
      this.#slots.delete(item.slot);
    }
  }
}
