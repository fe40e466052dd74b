// Time, chance, networks, storages and tabs of one history, all from one seed.
import { build } from "esbuild";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ModelGateway } from "./gateway.mjs";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const source = `export { FieldClient } from "./field.js"; export { newMeta, number, uncount } from "./storage.js"; export { slotOfEntry } from "./records.js";`;
const { outputFiles } = await build({
  stdin: { contents: source, resolveDir: join(root, "src"), loader: "ts" },
  bundle: true,
  format: "esm",
  write: false,
});
const { FieldClient, newMeta, number, uncount, slotOfEntry } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);

export class World {
  now = 1_700_000_000_000;
  #events = [];
  #order = 0;
  #seed;
  #writers = new Map();
  isHealed = false;

  constructor(seed) {
    this.#seed = seed;
    this.gateway = new ModelGateway(this);
  }

  /** mulberry32 */
  random() {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  after(ms, call) {
    const event = { at: this.now + ms, order: this.#order++, call };
    this.#events.push(event);
    return () => (event.call = undefined);
  }

  /** A writer of 16 digits for each client. */
  writer(client) {
    if (!this.#writers.has(client)) this.#writers.set(client, (this.#writers.size + 1).toString(16).padStart(16, "0"));
    return this.#writers.get(client);
  }

  /** Runs until this time. Between two events all promises are through. */
  async until(time) {
    for (;;) {
      await new Promise(setImmediate);
      let first;
      for (const event of this.#events) if (!first || event.at < first.at || (event.at === first.at && event.order < first.order)) first = event;
      if (!first || first.at > time) break;
      this.#events.splice(this.#events.indexOf(first), 1);
      this.now = first.at;
      first.call?.();
    }
    this.now = time;
  }

  run(ms) {
    return this.until(this.now + ms);
  }
}

class ModelSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #up = 0;
  #down = 0;
  #isCut = false;

  constructor(tab) {
    this.tab = tab;
    const { world } = tab;
    tab.sockets.add(this);
    world.after(1 + world.random() * 10, () => {
      if (this.#isCut) return;
      if (!world.gateway.isUp) return this.cut();
      this.server = world.gateway.connect(this);
      this.onopen?.();
    });
  }

  send(text) {
    this.#travel("#up", () => this.server?.receive(text));
  }

  deliver(text) {
    this.#travel("#down", () => this.onmessage?.({ data: text }));
  }

  /** In order, with a delay of its own. */
  #travel(way, arrive) {
    const { world } = this.tab;
    const at = Math.max(way === "#up" ? this.#up : this.#down, world.now + 0.5 + world.random() * 15);
    if (way === "#up") this.#up = at;
    else this.#down = at;
    world.after(at - world.now, () => {
      if (!this.#isCut && !this.tab.isDead) arrive();
    });
  }

  cut() {
    if (this.#isCut) return;
    this.#isCut = true;
    this.server?.close();
    this.tab.sockets.delete(this);
    this.tab.world.after(0.1, () => {
      if (!this.tab.isDead) this.onclose?.({ code: 1006, reason: "" });
    });
  }

  close() {
    this.#isCut = true;
    this.server?.close();
    this.tab.sockets.delete(this);
  }
}

/** What all tabs of a profile share: the database, the lock and the channel. */
export class Profile {
  tabs = new Set();
  meta = newMeta();
  entries = new Map();
  outbox = new Map();
  sums = new Map();
  /** The amounts and the last writes that were kept. */
  kept = [];
  holder;
  queue = [];
  /** Whether entries find no room any more. */
  isFull = false;

  constructor(world, name) {
    this.world = world;
    this.name = name;
    this.meta.client = `client-${name}`;
  }

  open() {
    const tab = new ModelTab(this);
    this.tabs.add(tab);
    return tab;
  }

  grant() {
    this.queue = this.queue.filter((port) => !port.tab.isDead && !port.tab.isAway && !port.isStopped);
    if (this.holder || !this.queue.length) return;
    this.holder = this.queue.shift();
    this.holder.owner.lead();
  }
}

class ModelStorage {
  persistent = true;

  constructor(tab) {
    this.tab = tab;
    this.profile = tab.profile;
  }

  /** A transaction: later, whole, and only if the tab lives until then. */
  #step(run) {
    return new Promise((resolve) => {
      const { world } = this.profile;
      world.after(world.random() * 4, () => {
        if (this.tab.isDead) return;
        const result = run();
        world.after(world.random(), () => {
          if (!this.tab.isDead) resolve(result);
        });
      });
    });
  }

  load() {
    return this.#step(() => ({ meta: { ...this.profile.meta }, outbox: [...this.profile.outbox.values()].sort((a, b) => a.op - b.op) }));
  }

  async entries(part) {
    const { meta, entries } = this.profile;
    const read = await this.#step(() => [[...entries.values()], { cursor: meta.cursor, sequence: meta.sequence }]);
    part(read[0]);
    return read[1];
  }

  keep(drafts) {
    return this.#step(() => {
      const kept = number(drafts, this.profile.meta, this.profile.sums);
      for (const write of kept) this.profile.outbox.set(write.op, write);
      this.profile.kept.push(...kept);
      return kept;
    });
  }

  async commit({ clear, entries = [], part, meta, remove = [], put = [], uncount: less = [] }) {
    const { profile } = this;
    if (profile.isFull && (entries.length || part)) throw new Error("no room for entries");
    return this.#step(() => {
      if (clear) profile.entries.clear();
      for (const entry of part?.entries ?? []) profile.entries.set(slotOfEntry(entry), entry);
      for (const [slot, entry] of entries) profile.entries.set(slot, entry);
      for (const op of remove) profile.outbox.delete(op);
      for (const write of put) profile.outbox.set(write.op, write);
      for (const { name, amount } of less) profile.sums.set(name, uncount(profile.sums.get(name), amount));
      Object.assign(profile.meta, meta);
    });
  }

  close() {}

  destroy() {
    return Promise.resolve();
  }
}

class ModelTab {
  isDead = false;
  /** In the cache of pages one can go back to: it neither hears nor speaks. */
  isAway = false;
  sockets = new Set();
  problems = [];

  constructor(profile) {
    this.profile = profile;
    this.world = profile.world;
    const { world } = this;
    const born = world.now;
    const wrong = (world.random() - 0.5) * 1_000;
    const of = {
      monotonic: () => world.now - born,
      wall: () => world.now + wrong,
      random: () => world.random(),
      after: (ms, call) => world.after(ms, () => !this.isDead && call()),
      socket: () => new ModelSocket(this),
      hidden: false,
      onWake: () => () => {},
    };
    const options = { persist: new ModelStorage(this), onError: (problem) => this.problems.push(problem) };
    this.field = new FieldClient("ws://model/field/home/ws", options, { of, tabs: (_, owner) => this.#port(owner) });
  }

  #port(owner) {
    const { profile, world } = this;
    const port = {
      tab: this,
      owner,
      isStopped: false,
      start: () => {
        if (profile.holder) owner.follow();
        profile.queue.push(port);
        world.after(world.random(), () => profile.grant());
      },
      post: (message) => {
        if (this.isAway) return;
        // One broker passes everything on, in order.
        const copy = structuredClone(message);
        for (const other of profile.tabs) if (other !== this) other.hear(copy);
      },
      appear: async () => {},
      watch: () => {},
      steal: () => {
        const { holder } = profile;
        profile.queue = profile.queue.filter((waiting) => waiting !== port);
        profile.holder = port;
        if (holder && !holder.tab.isDead) {
          holder.owner.rest();
          holder.owner.follow();
          profile.queue.push(holder);
        }
        owner.lead();
      },
      stop: () => {
        port.isStopped = true;
        if (profile.holder === port) profile.holder = undefined;
        world.after(0, () => profile.grant());
      },
    };
    this.port = port;
    return port;
  }

  hear(message) {
    const at = Math.max(this.profile.channelAt ?? 0, this.world.now + this.world.random());
    this.profile.channelAt = at;
    this.world.after(at - this.world.now, () => {
      if (!this.isDead && !this.isAway && !this.port.isStopped) this.port.owner.message(message);
    });
  }

  /** The page goes, and comes back. */
  leave(ms) {
    if (this.isAway) return;
    const { profile, port, world } = this;
    this.isAway = true;
    profile.queue = profile.queue.filter((waiting) => waiting !== port);
    port.owner.rest();
    if (profile.holder === port) profile.holder = undefined;
    world.after(0, () => profile.grant());
    world.after(ms, () => {
      this.isAway = false;
      if (!this.isDead) port.start();
    });
  }

  /** The process ends at once. */
  crash() {
    this.isDead = true;
    for (const socket of [...this.sockets]) socket.close();
    this.profile.tabs.delete(this);
    if (this.profile.holder === this.port) this.profile.holder = undefined;
    this.world.after(1, () => this.profile.grant());
  }
}
