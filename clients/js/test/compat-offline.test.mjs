// The class `Aether` offline, and with a server of protocol 0.4: the nine scenarios that the sync engine tests, and more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Aether } from "../dist/compat.js";
import { next, page, Server04 } from "./compat-04.mjs";

const URL04 = "ws://localhost:8211";
const KEY = `aether::state::${URL04}`;
const cached = (data, v = 1) => ({ [KEY]: JSON.stringify({ v, data }) });

/** Whether the promise is settled after all that is due now. */
async function isSettled(promise) {
  let settled = false;
  promise.then(() => (settled = true), () => (settled = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  return settled;
}

/** The text in the cache, when it is there (again). */
async function written({ storage }, accept = () => true) {
  const set = storage.setItem.bind(storage);
  const present = storage.getItem(KEY);
  if (present !== null && accept(JSON.parse(present))) return JSON.parse(present);
  return new Promise((resolve) => {
    storage.setItem = (key, text) => {
      set(key, text);
      if (accept(JSON.parse(text))) {
        storage.setItem = set;
        resolve(JSON.parse(text));
      }
    };
  });
}

function open(t, url = URL04, options) {
  const aether = new Aether(url, options);
  t.after(() => aether.close());
  return aether;
}

test("without a cache and a server ready() waits", async (t) => {
  page(t);
  const aether = open(t);
  assert.equal(await isSettled(aether.ready()), false);
  assert.deepEqual([aether.snapshot(), aether.keys(), aether.connected, aether.clientId, aether.clientColor, aether.url], [{}, [], false, null, null, URL04]);
});

test("a snapshot of the server fills the state and the cache", async (t) => {
  const server = new Server04();
  Object.assign(server, { online: true, data: { "node:1:type": "firewall", "node:1:label": "Edge" } });
  const here = page(t, { server });
  const aether = open(t);
  await aether.ready();
  assert.equal(aether.get("node:1:type"), "firewall");
  assert.deepEqual(await written(here), { v: 1, data: server.data });
});

test("a cache is there at once, before the server", async (t) => {
  page(t, { cache: cached({ a: "switch", at: { x: 500, y: 300 } }) });
  const aether = open(t);
  assert.deepEqual([aether.get("a"), aether.get("at"), aether.has("b")], ["switch", { x: 500, y: 300 }, false]);
  // No server comes.
  await aether.ready();
});

test("offline changes are in the cache, the last of many", async (t) => {
  const here = page(t);
  const aether = open(t);
  aether.set("type", "router");
  for (let x = 0; x < 20; x += 1) aether.set("at", { x });
  aether.set("gone", 1);
  aether.delete("gone");
  const { data } = await written(here);
  assert.deepEqual(data, { type: "router", at: { x: 19 } });
  aether.close();
  page(t, { cache: cached(data) });
  assert.deepEqual(open(t).snapshot(), data);
});

test("close() writes the cache", (t) => {
  const { storage } = page(t);
  const aether = open(t);
  aether.set("a", 1);
  assert.equal(storage.getItem(KEY), null);
  aether.close();
  assert.deepEqual(JSON.parse(storage.getItem(KEY)).data, { a: 1 });
});

test("a damaged cache is removed", async (t) => {
  const { storage } = page(t, { cache: { [KEY]: "not json {{" } });
  const aether = open(t);
  assert.equal(storage.getItem(KEY), null);
  assert.equal(await isSettled(aether.ready()), false);
});

test("a cache of another version is left alone", async (t) => {
  const { storage } = page(t, { cache: cached({ a: 1 }, 99) });
  const aether = open(t);
  assert.equal(await isSettled(aether.ready()), false);
  assert.equal(aether.get("a"), undefined);
  assert.ok(storage.getItem(KEY));
});

test("a full storage loses nothing in memory", async (t) => {
  const here = page(t, { room: 50 });
  const aether = open(t);
  aether.set("a", "a".repeat(200));
  aether.close();
  assert.equal(aether.get("a").length, 200);
  assert.equal(here.storage.getItem(KEY), null);
});

test("what the server has differently is reported, and what it has not is removed", async (t) => {
  const server = new Server04();
  Object.assign(server, { online: true, data: { type: "switch", label: "New", same: { deep: [1] } } });
  const here = page(t, { server, cache: cached({ type: "router", label: "Old", gone: "nas", same: { deep: [1] } }) });
  const aether = open(t);
  await aether.ready();
  assert.equal(aether.get("type"), "router", "the cache first");
  const seen = [];
  aether.onAny((...change) => seen.push(change));
  const gone = next((callback) => aether.on("gone", callback));
  assert.deepEqual(await gone, [undefined, "nas"]);
  assert.deepEqual(seen.sort(), [["gone", undefined, "nas"], ["label", "New", "Old"], ["type", "switch", "router"]]);
  assert.deepEqual(aether.snapshot(), server.data);
  assert.deepEqual((await written(here, ({ data }) => !("gone" in data))).data, server.data);
});

test("each URL has a cache of its own", (t) => {
  const cache = Object.fromEntries(["gw1", "gw2"].map((name) => [`aether::state::ws://${name}:8211`, JSON.stringify({ v: 1, data: { [name]: 1 } })]));
  page(t, { cache: { ...cache, mine: JSON.stringify({ v: 1, data: { own: 1 } }) } });
  assert.deepEqual(["gw1", "gw2"].map((name) => open(t, `ws://${name}:8211`).keys()), [["gw1"], ["gw2"]]);
  assert.deepEqual(open(t, "ws://gw1:8211", { cacheKey: "mine" }).keys(), ["own"]);
  assert.deepEqual(open(t, "ws://gw1:8211", { persist: false }).keys(), []);
});

test("clearCache() clears the cache, not the state", (t) => {
  const { storage } = page(t, { cache: cached({ a: 1 }) });
  const aether = open(t);
  aether.clearCache();
  assert.deepEqual([storage.getItem(KEY), aether.get("a")], [null, 1]);
});

test("a server of protocol 0.4 gets the token, the writes of before, and presence", async (t) => {
  const server = new Server04();
  server.strict = true; // as browsers are: the connection with a subprotocol fails
  page(t, { server });
  const aether = open(t, `${URL04}/?room=1#part`, { authToken: "a secret&" });
  aether.set("offline", { n: 1 });
  aether.set("empty", 1);
  aether.delete("empty");
  server.online = true;
  await next((callback) => aether.onStatus(callback), (connected) => connected);
  assert.ok(server.attempts.some(([url, protocol]) => url === `${URL04}/?room=1&auth_token=a%20secret%26#part` && protocol === undefined));
  assert.deepEqual(server.received[0], { type: "auth", token: "a secret&" });
  await server.until(({ data }) => "offline" in data);
  assert.deepEqual(server.data, { offline: { n: 1 } });
  aether.sendPresence(3.9, "7");
  assert.deepEqual(server.received.at(-1), { type: "presence", x: 3, y: 7 });
  const [socket] = server.sockets;
  const seen = next((callback) => aether.onPresence(callback));
  const left = next((callback) => aether.onPresenceLeave(callback));
  socket.say({ type: "presence", id: "other", color: "hsl(0, 78%, 62%)", x: 1, y: 2 });
  socket.say({ type: "presence-leave", id: "other" });
  assert.deepEqual([(await seen).slice(0, 3), await left], [["other", 1, 2], ["other"]]);
  socket.say({ type: "set", key: "theirs", value: [1] });
  socket.say({ type: "unknown" });
  socket.onmessage({ data: "not json" });
  socket.say({ type: "delete", key: "offline" });
  assert.deepEqual(aether.snapshot(), { theirs: [1] });
  aether.get("theirs").push(2); // 0.4 returns what may be changed
});

test("callbacks must be functions, and the errors of one end no other", (t) => {
  page(t);
  const aether = open(t);
  for (const name of ["onAny", "onSupersede", "onPresence", "onPresenceLeave"]) assert.throws(() => aether[name]("no"), TypeError, name);
  assert.throws(() => aether.on("a", undefined), TypeError);
  const errors = t.mock.method(console, "error", () => {});
  assert.doesNotThrow(() => aether.onStatus(undefined)());
  const seen = [];
  aether.on("a", () => {
    throw new Error("mine");
  });
  const off = aether.on("a", (value, old) => seen.push([value, old]));
  aether.onAny((key, value, old) => seen.push([key, value, old]));
  aether.set("a", 1);
  off();
  off();
  aether.set("a", 1);
  aether.set("a", 2);
  aether.delete("a");
  aether.delete("a");
  assert.deepEqual(seen, [[1, undefined], ["a", 1, undefined], ["a", 2, 1], ["a", undefined, 2]]);
  assert.ok(errors.mock.callCount() >= 4);
});

test("set and delete never throw", (t) => {
  page(t);
  const aether = open(t);
  const cycle = {};
  cycle.self = cycle;
  for (const value of [cycle, 1n, undefined, () => {}, NaN, Symbol("s")]) aether.set("bad", value);
  assert.equal(aether.has("bad"), false);
  aether.set("a", 1);
  aether.set("a", null);
  assert.equal(aether.has("a"), false);
  aether.set(7, new Date(0));
  assert.equal(aether.has("7"), true);
  aether.set("__proto__", { a: 1 });
  assert.deepEqual(Object.keys(aether.snapshot()).sort(), ["7", "__proto__"]);
  const given = { list: [1] };
  aether.set("given", given);
  given.list.push(2); // the page may go on with its object
  assert.deepEqual(aether.get("given"), { list: [1, 2] });
  aether.set("given", given);
  assert.equal(aether.get("given"), given);
  aether.close();
  aether.set("after", 1);
  assert.equal(aether.get("after"), 1);
});

test("without autoReconnect it does not connect again", async (t) => {
  const server = new Server04();
  server.online = true;
  page(t, { server });
  const aether = open(t, URL04, { autoReconnect: false });
  await aether.ready();
  const attempts = server.attempts.length;
  const lost = next((callback) => aether.onStatus(callback), (connected) => !connected);
  for (const socket of server.sockets) socket.drop(1006);
  await lost;
  aether.set("a", 1);
  await new Promise((resolve) => setTimeout(resolve, 600)); // more than the first pause of 200 ms
  assert.deepEqual([server.attempts.length, aether.get("a"), aether.connected], [attempts, 1, false]);
});
