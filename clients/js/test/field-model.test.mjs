// Random histories of two profiles with two tabs each, by seed: connections that break, gateways that crash, tabs that
// crash, pages that go and come back, storages without room. AETHER_HISTORIES says how many, AETHER_SEED which one first.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LONG } from "./harness.mjs";
import { Profile, World } from "./model/world.mjs";

const HISTORIES = Number(process.env.AETHER_HISTORIES ?? (LONG ? 10_000 : 500));
const FIRST = Number(process.env.AETHER_SEED ?? 1);
const KEYS = ["a", "b", "c"];
const MEMBERS = ["x", "y"];

test(`${HISTORIES} histories: no kept write is lost, none counts twice, no sum dips, all views are equal at the end`, { timeout: 1_200_000 }, async () => {
  for (let seed = FIRST; seed < FIRST + HISTORIES; seed++) {
    try {
      await history(seed);
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
});

async function history(seed) {
  const world = new World(seed);
  const profiles = [new Profile(world, "one"), new Profile(world, "two")];
  // Nobody takes anything from this counter. A gateway that crashes may lose counts of others for a moment.
  let hasCrashed = false;
  const dips = [];
  const open = (profile) => {
    const counter = profile.open().field.counter("up");
    let last = 0;
    counter.on(() => {
      if (counter.value < last && !hasCrashed) dips.push(`${last} to ${counter.value}`);
      last = counter.value;
    });
  };
  for (const profile of profiles) for (let at = 0; at < 2; at++) open(profile);
  const durable = [];
  let values = 0;
  const steps = 20 + Math.floor(world.random() * 40);
  for (let step = 0; step < steps; step++) {
    const profile = world.pick(profiles);
    const tab = world.pick([...profile.tabs]);
    const chance = world.random();
    if (chance < 0.35) {
      const key = world.pick(KEYS);
      const value = `${profile.name} ${values++}`;
      const write = tab.field.set(key, value);
      assert.equal(tab.field.get(key), value);
      write.durable.then(() => durable.push({ key, value }), () => {});
    } else if (chance < 0.42) tab.field.delete(world.pick(KEYS));
    else if (chance < 0.5) tab.field.counter("up").add(1);
    else if (chance < 0.62) tab.field.counter("n").add(1 + Math.floor(world.random() * 9) - (world.random() < 0.3 ? 5 : 0));
    else if (chance < 0.72) tab.field.members("s").add(world.pick(MEMBERS));
    else if (chance < 0.78) tab.field.members("s").delete(world.pick(MEMBERS));
    else if (chance < 0.86) for (const socket of [...tab.sockets]) socket.cut();
    else if (chance < 0.91 && world.gateway.isUp) {
      hasCrashed = true;
      world.gateway.crash();
      world.after(world.random() * 500, () => world.gateway.start());
    } else if (chance < 0.96) {
      tab.crash();
      open(profile);
    } else if (chance < 0.98) tab.leave(world.random() * 500);
    else if (chance < 0.99) {
      profile.isFull = !profile.isFull;
      profile.wasFull = true;
    }
    await world.run(world.random() < 0.5 ? world.random() * 5 : world.random() * 200);
  }
  // Everything heals, and a page is opened: it finds what a tab kept that crashed before it could tell the others.
  await world.run(1_000);
  for (const profile of profiles) open(profile);
  const tabs = profiles.flatMap((profile) => [...profile.tabs]);
  for (let at = 0; at < 30; at++) {
    await world.run(2_000);
    if (world.gateway.isUp && tabs.every(({ field }) => field.status === "online" && !field.pending)) break;
  }
  await world.run(2_000);
  for (const tab of tabs) {
    assert.equal(tab.field.status, "online");
    assert.equal(tab.field.pending, 0, "everything is confirmed");
    if (!tab.profile.wasFull) assert.deepEqual(tab.problems, []);
  }
  const { state, log } = world.gateway;
  // No kept write is lost, and none counts twice.
  const sums = {};
  for (const { kind, name, amount } of profiles.flatMap(({ kept }) => kept)) if (kind === "count") sums[name] = (sums[name] ?? 0) + Number(amount);
  for (const name of ["n", "up"]) assert.equal(state.sum(name), sums[name] ?? 0, "the sum is the one of all kept amounts");
  assert.deepEqual(dips, [], "no sum falls if nobody takes anything from it");
  for (const { kept, meta, outbox } of profiles) {
    assert.equal(outbox.size, 0);
    const last = new Map();
    for (const write of kept) last.set(`${write.kind === "count"} ${write.name} ${write.member}`, write);
    for (const write of last.values()) assert.ok(log.has(`${meta.client} ${write.op}`), `the last write of ${write.name} arrived`);
  }
  // Views.
  const registers = Object.fromEntries([...state.registers].filter(([, { value }]) => value !== undefined).map(([key, { value }]) => [key, value]));
  const members = MEMBERS.filter((member) => state.newest("s", member));
  for (const { field, profile } of tabs) {
    assert.deepEqual({ ...field.snapshot() }, registers, `the registers of ${profile.name}`);
    for (const name of ["n", "up"]) assert.equal(Number(field.counter(name).value), sums[name] ?? 0, `the counter of ${profile.name}`);
    assert.deepEqual([...field.members("s").values()].sort(), members, `the set of ${profile.name}`);
  }
  for (const { field } of tabs) void field.close();
  await world.run(100);
}
