/** Who is here: what this tab has announced, the other tabs of its client, and the participants of other clients. */
import type { Participant } from "./events.js";
import { equal } from "./json.js";
import { overlap } from "./records.js";
import type { Announcement, TabsPort } from "./tabs.js";
import type { Json } from "./types.js";
import { Watchers } from "./watchers.js";

export interface ParticipantsOwner {
  tabs(): TabsPort | undefined;
  /** Tells the gateway, if this tab has the connection. */
  announce(announcement: Announcement): void;
}

export class Participants {
  readonly watchers = new Watchers<void>();
  /** The id that the gateway gave to the connection. */
  connection: string | undefined;
  /** What this tab has announced, by room. */
  readonly #own = new Map<string | undefined, Announcement>();
  #names = 0;
  /** What other tabs of this client have announced, by name. */
  readonly #siblings = new Map<string, Announcement>();
  /** The tabs of which the end is awaited. */
  readonly #watched = new Set<string>();
  readonly #others = new Map<string, Participant>();
  /** The last result of `of`, by room. */
  readonly #rooms = new Map<string, ReadonlyMap<string, Json>>();

  constructor(
    private readonly tab: string,
    private readonly owner: ParticipantsOwner,
  ) {}

  /** The id of this tab, outside of rooms; `undefined` without a connection. */
  get id(): string | undefined {
    return this.connection === undefined ? undefined : this.#idOf(this.#name);
  }

  announce(value: Json, room: string | undefined): void {
    const known = this.#own.get(room);
    if (!known && value === null) return;
    const as = known?.as ?? (room === undefined ? this.#name : `${this.#name}.${++this.#names}`);
    const announcement: Announcement = { type: "announce", tab: this.tab, as, value, room };
    if (value === null) this.#own.delete(room);
    else this.#own.set(room, announcement);
    this.#tell(announcement);
    this.owner.announce(announcement);
  }

  /** Tells other tabs what this one is, which comes, comes back, or was asked. */
  appear(): void {
    for (const announcement of this.#own.values()) this.#tell(announcement);
  }

  #tell(announcement: Announcement): void {
    const tabs = this.owner.tabs();
    void tabs?.appear(this.tab).then(() => tabs.post(announcement));
  }

  /** Tells a new connection what all tabs are. */
  announceAll(): void {
    for (const announcement of [...this.#own.values(), ...this.#siblings.values()]) this.owner.announce(announcement);
  }

  /** Another tab is a participant, or was. */
  hear(announcement: Announcement): void {
    const { tab, as, value } = announcement;
    this.owner.announce(announcement);
    if (value === null) this.#siblings.delete(as);
    else this.#siblings.set(as, announcement);
    this.watchers.call();
    if (value === null || this.#watched.has(tab)) return;
    this.#watched.add(tab);
    this.owner.tabs()?.watch(tab, () => {
      this.#watched.delete(tab);
      for (const sibling of [...this.#siblings.values()]) if (sibling.tab === tab) this.hear({ ...sibling, value: null });
    });
  }

  /** This tab goes, and hears nothing until it comes back. */
  leave(): void {
    this.#siblings.clear();
    this.#watched.clear();
  }

  /** The connection is new. */
  alone(): void {
    this.#others.clear();
    this.watchers.call();
  }

  meet(id: string, { value, patterns }: Participant): void {
    // Participants repeat their announcement.
    if (equal(this.#others.get(id), { value, patterns })) return;
    if ((value ?? null) === null) this.#others.delete(id);
    else this.#others.set(id, { value, patterns });
    this.watchers.call();
  }

  /** The participants of other clients, with their ids. */
  others(): Iterable<[string, Participant]> {
    return this.#others;
  }

  /** The participants that concern names of a room: the same map until one comes, changes or leaves. */
  of(room = "*"): ReadonlyMap<string, Json> {
    const now = new Map<string, Json>();
    for (const [id, { value = null, patterns }] of this.#others) if (patterns.some((pattern) => overlap(pattern, room))) now.set(id, value);
    for (const [as, sibling] of this.#siblings) if (overlap(sibling.room ?? "*", room)) now.set(this.#idOf(as), sibling.value);
    const last = this.#rooms.get(room);
    if (last && last.size === now.size && [...now].every(([id, value]) => last.get(id) === value)) return last;
    this.#rooms.set(room, now);
    return now;
  }

  /** Without other tabs the client itself is the participant. */
  get #name(): string {
    return this.owner.tabs() ? this.tab : "";
  }

  #idOf(as: string): string {
    const id = this.connection ?? "";
    return as ? `${id}/${as}` : id;
  }
}
