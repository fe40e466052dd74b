// A storage of the program's own, and what becomes of writes when it is full.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { client, durableGateway, shows, status } from "./field-helpers.mjs";
import { Proxy, stopAll, until } from "./harness.mjs";

after(stopAll);

/** Holds so many entries and writes together; a step that would be too much fails as a whole. */
class Bounded {
  persistent = true;
  meta = { client: crypto.randomUUID(), op: 0, at: 0, skew: 0, cursor: undefined, sequence: 0 };
  saved = new Map();
  outbox = new Map();

  constructor(room) {
    this.room = room;
  }

  check(saved, outbox) {
    if (saved.size + outbox.size > this.room) throw new DOMException("no room", "QuotaExceededError");
    [this.saved, this.outbox] = [saved, outbox];
  }

  async load() {
    return { meta: { ...this.meta }, outbox: [...this.outbox.values()] };
  }

  async entries(part) {
    part([...this.saved.values()]);
    return this.meta;
  }

  async keep(drafts) {
    const kept = drafts.map((draft, at) => ({ ...draft, op: this.meta.op + 1 + at }));
    this.check(this.saved, new Map([...this.outbox, ...kept.map((write) => [write.op, write])]));
    this.meta.op += drafts.length;
    return kept;
  }

  async commit({ clear, entries = [], part, meta, remove = [], put = [] }) {
    const saved = new Map(clear ? [] : this.saved);
    for (const entry of part?.entries ?? []) saved.set(`r${entry.key}`, entry);
    for (const [slot, entry] of entries) saved.set(slot, entry);
    const outbox = new Map(this.outbox);
    for (const op of remove) outbox.delete(op);
    for (const write of put) outbox.set(write.op, write);
    this.check(saved, outbox);
    Object.assign(this.meta, meta);
  }

  close() {}

  async destroy() {}
}

/** A field with 30 keys, over a connection that can be refused. */
async function offline(store) {
  const gateway = await durableGateway();
  const b = client(gateway.field());
  await b.batch(() => Array.from({ length: 30 }, (_, at) => b.set(`old/${at}`, at)));
  const proxy = await Proxy.start(gateway.port);
  const problems = [];
  const field = client(`ws://127.0.0.1:${proxy.port}/field/home/ws`, { persist: store, onError: (problem) => problems.push(problem) });
  await status(field, "online");
  return { b, proxy, problems, field };
}

test("a full storage: what was read goes first, and every write is kept", async () => {
  const store = new Bounded(40);
  const { b, proxy, problems, field } = await offline(store);
  proxy.refuse();
  await status(field, "offline");
  assert.equal(store.saved.size, 30);
  const writes = Array.from({ length: 20 }, (_, at) => field.set(`new/${at}`, at));
  await Promise.all(writes.map(({ kept }) => kept));
  assert.deepEqual([store.outbox.size, store.saved.size, store.meta.cursor, field.persisted], [20, 0, undefined, true]);
  assert.deepEqual(problems.map(({ code }) => code), ["storage"]);
  assert.equal(field.get("old/7"), 7, "it is still shown");
  // Another client of this storage, as after a reload, sends them.
  await field.close();
  proxy.restore();
  const again = client(`ws://127.0.0.1:${proxy.port}/field/home/ws`, { persist: store });
  await again.synced(60_000);
  for (let at = 0; at < 20; at++) await shows(b, `new/${at}`, at);
  await until((nudge) => again.on("*", nudge), () => again.keys().length === 50);
});

test("a storage without any room: the client goes on in memory, and says so once", async () => {
  const { b, problems, field } = await offline(new Bounded(0));
  assert.equal(await field.set("k", 1), "durable");
  assert.equal(field.persisted, false);
  assert.deepEqual(problems.map(({ code }) => code), ["storage"]);
  await shows(b, "k", 1);
});

test("writes of many ticks are kept in few steps, and close waits for all of them", async () => {
  const store = new Bounded(5_000);
  let steps = 0;
  const keep = store.keep.bind(store);
  store.keep = async (drafts) => {
    steps++;
    // A disk takes longer than a tick.
    await new Promise((resolve) => setTimeout(resolve, 5));
    const kept = await keep(drafts);
    for (const write of kept) store.outbox.set(write.op, write);
    return kept;
  };
  const field = client("ws://127.0.0.1:9/field/home/ws", { persist: store });
  for (let at = 0; at < 2_500; at++) {
    field.set(`new/${at}`, at);
    if (at % 10 === 0) await undefined;
  }
  await field.close();
  assert.equal(store.outbox.size, 2_500);
  assert.ok(steps < 10, `${steps} steps`);
});
