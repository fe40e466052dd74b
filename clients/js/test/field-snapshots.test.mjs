// Snapshots of a gateway that the test speaks for, message by message.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocketServer } from "ws";
import { client, status } from "./field-helpers.mjs";
import { onStop, stopAll, until } from "./harness.mjs";

after(stopAll);

const version = (at) => `${at}.0@00000000000000ff`;
const register = (key, value, at) => ({ key, ...(value !== undefined && { value }), version: version(at) });
const member = (set, member, present, at) => ({ set, member, present, ...(present && { version: version(at) }) });
const cursor = (revision) => ({ epoch: "e", revision });

/** A field whose gateway says hello, sends a snapshot of `entries`, and then what `send` gets. */
async function online(entries) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: () => "aether.field.v1" });
  await new Promise((resolve) => server.once("listening", resolve));
  onStop(() => new Promise((resolve) => (server.close(resolve), server.clients.forEach((each) => each.terminate()))));
  let socket;
  const send = (...messages) => messages.forEach((message) => socket.send(JSON.stringify(message)));
  server.on("connection", (opened) => {
    socket = opened;
    socket.on("message", (data) => {
      for (const { type } of [JSON.parse(data)].flat()) {
        if (type === "hello") send({ type: "hello", id: "id", time: Date.now(), read: ["*"], write: ["*"], limits: {} });
        if (type === "subscribe") send({ type: "subscribed", resumed: false }, { type: "snapshot", first: true, done: true, ...cursor(1), entries });
      }
    });
  });
  const problems = [];
  const field = client(`ws://127.0.0.1:${server.address().port}/field/home/ws`, { onError: (problem) => problems.push(problem) });
  await status(field, "online");
  return { field, send, problems };
}

/** All that a field shows. */
const shown = (field) => ({ ...field.snapshot(), n: field.counter("n").value, "room/8/n": field.counter("room/8/n").value, tags: [...field.members("tags").values()], "room/8/tags": [...field.members("room/8/tags").values()] });

/** Everything up to here has been read. */
async function settled({ field, send }) {
  const key = `mark/${Math.random()}`;
  send({ type: "changes", ...cursor(9), entries: [register(key, 1, 9)] }, { type: "changes", ...cursor(9), entries: [{ key, version: version(10) }] });
  let seen = false;
  await until((nudge) => field.on(key, (change) => ((seen = change.value === undefined), nudge())), () => seen);
}

const BEFORE = [
  register("a", 1, 1),
  register("room/7/lamp", 7, 1),
  register("room/8/lamp", 8, 1),
  register("room/8/door", "open", 1),
  { counter: "n", sum: 5 },
  { counter: "room/8/n", sum: 8 },
  member("tags", "x", true, 1),
  member("tags", "y", true, 1),
  member("room/8/tags", "old", true, 1),
];

test("a snapshot of some patterns replaces what is below them, and nothing else", async () => {
  const it = await online(BEFORE);
  const changes = [];
  it.field.on("*", ({ key, value, old }) => changes.push([key, old, value]));
  it.send(
    { type: "subscribed", resumed: false },
    { type: "snapshot", first: true, done: false, patterns: ["room/8/*"], entries: [register("room/8/lamp", "new", 2)] },
  );
  await settled(it);
  assert.equal(it.field.get("room/8/lamp"), 8, "nothing of it before its end");
  // What is not below the patterns goes on meanwhile, and so does what is.
  it.send(
    { type: "changes", ...cursor(2), entries: [register("a", 2, 2), { counter: "n", sum: 6 }, member("tags", "z", true, 2), register("room/8/late", 1, 3), member("room/8/tags", "late", true, 3)] },
    { type: "snapshot", first: false, done: true, patterns: ["room/8/*"], ...cursor(3), entries: [{ counter: "room/8/n", sum: 9 }, member("room/8/tags", "new", true, 2)] },
  );
  await settled(it);
  assert.deepEqual(shown(it.field), { a: 2, "room/7/lamp": 7, "room/8/lamp": "new", "room/8/late": 1, n: 6, "room/8/n": 9, tags: ["x", "y", "z"], "room/8/tags": ["late", "new"] });
  const seen = changes.filter(([key]) => !key.startsWith("mark/")).sort();
  assert.deepEqual(seen, [["a", 1, 2], ["room/8/door", "open", undefined], ["room/8/lamp", 8, "new"], ["room/8/late", undefined, 1]]);
  assert.deepEqual(it.problems, []);
});

test("a snapshot of some patterns that is empty takes all below them away", async () => {
  const it = await online(BEFORE);
  it.send({ type: "snapshot", first: true, done: true, patterns: ["room/8/*", "tags"], ...cursor(2), entries: [] });
  await settled(it);
  assert.deepEqual(shown(it.field), { a: 1, "room/7/lamp": 7, n: 5, "room/8/n": 0, tags: [], "room/8/tags": [] });
});

test("a whole snapshot takes the place of one of some patterns that is not complete", async () => {
  const it = await online(BEFORE);
  it.send(
    { type: "snapshot", first: true, done: false, patterns: ["room/8/*"], entries: [register("room/8/ghost", 1, 2)] },
    { type: "snapshot", first: true, done: true, ...cursor(3), entries: [register("only", 1, 3)] },
  );
  await settled(it);
  assert.deepEqual(shown(it.field), { only: 1, n: 0, "room/8/n": 0, tags: [], "room/8/tags": [] });
});
