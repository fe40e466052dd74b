// Fields in Node against the real gateway: the acceptance cases that need no browser.
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { after, test } from "node:test";
import WebSocket from "ws";
import { client, durableGateway, shows, status, tokens } from "./field-helpers.mjs";
import { Gateway, LONG, Process, Proxy, root, stopAll, until, within } from "./harness.mjs";

after(stopAll);

/**
 * Clocks are known to within half a round trip, so writes that shall have an order are further apart. The connections were made
 * after `began`, so no round trip took longer than the time since then.
 */
const apart = (began) => new Promise((resolve) => setTimeout(resolve, performance.now() - began + 250));

test("J1 C1-1: of two offline writes of a key the later one wins, whoever comes back first", async () => {
  const gateway = await durableGateway();
  for (const first of ["early", "late"]) {
    const proxies = { early: await Proxy.start(gateway.port), late: await Proxy.start(gateway.port) };
    const fields = {};
    const began = performance.now();
    for (const name of ["early", "late"]) {
      fields[name] = client(`ws://127.0.0.1:${proxies[name].port}/field/home/ws`);
      await fields[name].ready();
      proxies[name].refuse();
      await status(fields[name], "offline");
    }
    const key = `key-${first}`;
    const early = fields.early.set(key, "early");
    await apart(began);
    const late = fields.late.set(key, "late");
    const second = first === "early" ? "late" : "early";
    proxies[first].restore();
    fields[first].retry();
    await fields[first].synced(60_000);
    proxies[second].restore();
    fields[second].retry();
    await Promise.all([early, late]);
    await Promise.all([shows(fields.early, key, "late"), shows(fields.late, key, "late")]);
  }
});

test("J1 C1-2: an offline write that loses against a later removal is reported to its writer, once", async () => {
  const gateway = await durableGateway();
  const proxy = await Proxy.start(gateway.port);
  const began = performance.now();
  const a = client(`ws://127.0.0.1:${proxy.port}/field/home/ws`);
  const b = client(gateway.field());
  await b.set("k", "first");
  await shows(a, "k", "first");
  const superseded = [];
  a.onSuperseded((loss) => superseded.push(loss));
  b.onSuperseded((loss) => superseded.push({ winner: loss }));
  proxy.refuse();
  await status(a, "offline");
  const write = a.set("k", "offline");
  await apart(began);
  await b.delete("k");
  proxy.restore();
  a.retry();
  await write;
  await shows(a, "k", undefined);
  assert.equal(b.get("k"), undefined);
  assert.deepEqual(superseded, [{ key: "k", lost: "offline", value: undefined }]);
});

test("J1 C1-4: 5000 offline writes arrive without a disconnect, all durable", async () => {
  const gateway = await durableGateway(LONG ? {} : { limits: { messages_per_second: 2_000, messages_burst: 2_000 } });
  const a = client(gateway.field());
  await a.ready();
  const port = gateway.port;
  await gateway.kill();
  await status(a, "offline");
  const writes = Array.from({ length: 5_000 }, (_, at) => a.set(`key/${at}`, at));
  assert.equal(a.pending, 5_000);
  await gateway.start();
  assert.equal(gateway.port, port);
  a.retry();
  const began = performance.now();
  const statuses = [];
  await status(a, "online");
  a.onStatus((now) => statuses.push(now));
  assert.ok((await Promise.all(writes)).every((end) => end === "durable"));
  assert.deepEqual(statuses, []);
  if (LONG) assert.ok(performance.now() - began < 60_000);
  const b = client(gateway.field());
  await b.ready();
  assert.equal(b.keys("key/*").length, 5_000);
});

test("J1 C1-8, J15: what is not JSON throws with the path, what is over a limit is refused and rolled back", async () => {
  const gateway = await durableGateway();
  const a = client(gateway.field());
  const b = client(gateway.field());
  await Promise.all([a.ready(), b.ready()]);
  const cycle = {};
  cycle.again = cycle;
  const deep = [];
  for (let at = 0, last = deep; at < 200; at++) last.push((last = []));
  for (const [value, path] of [
    [undefined, /^value is not JSON: undefined/],
    [{ a: [1, NaN] }, /value\["a"\]\[1\] is not JSON: NaN/],
    [{ a: undefined }, /value\["a"\] is not JSON: undefined/],
    [10n, /bigint/],
    [new Date(), /a Date/],
    [[new Map()], /value\[0\] is not JSON: a Map/],
    [cycle, /value\["again"\] is not JSON: a cycle/],
    ["\ud800", /surrogate/],
    [{ "\udc00": 1 }, /surrogate/],
    [deep, /127 levels/],
  ]) {
    assert.throws(() => a.set("x", value), (error) => error instanceof TypeError && path.test(error.message));
  }
  const refused = [];
  a.onRefused(({ key, code }) => refused.push([key.length, code]));
  await a.set("big", "before");
  const tooBig = a.set("big", "x".repeat(32_767));
  await assert.rejects(Promise.resolve(tooBig), { name: "Refused", code: "value-size" });
  assert.equal(tooBig.state, "refused");
  assert.equal(a.get("big"), "before");
  await assert.rejects(Promise.resolve(a.set("null", null)), { code: "null" });
  await assert.rejects(Promise.resolve(a.set("k".repeat(257), 1)), { code: "key-size" });
  await assert.rejects(Promise.resolve(a.set("", 1)), { code: "key-size" });
  assert.deepEqual(refused, [[3, "value-size"], [4, "null"], [257, "key-size"], [0, "key-size"]]);

  const emoji = "\u{1f600}".repeat(64);
  assert.equal(new TextEncoder().encode(emoji).length, 256);
  await Promise.all([a.set("big", "x".repeat(32_766)), a.set(emoji, emoji), a.set("__proto__", { __proto__: null, ["__proto__"]: 1 })]);
  await shows(b, "__proto__", (value) => value !== undefined);
  await shows(b, emoji, emoji);
  assert.deepEqual(Object.keys(b.snapshot("__*")), ["__proto__"]);
  assert.equal(Object.getOwnPropertyDescriptor(b.get("__proto__"), "__proto__").value, 1);
  assert.equal(b.get("constructor"), undefined);
});

test("J15: sums beyond 2^53 are exact, members may be bytes", async () => {
  const gateway = await durableGateway();
  const a = client(gateway.field());
  const b = client(gateway.field());
  await Promise.all([a.ready(), b.ready()]);
  const big = a.counter("big");
  for (let at = 0; at < 4; at++) big.add(Number.MAX_SAFE_INTEGER);
  await big.add(3);
  const exact = 4n * BigInt(Number.MAX_SAFE_INTEGER) + 3n;
  await until((nudge) => b.counter("big").on(nudge), () => b.counter("big").value === exact);
  assert.equal(a.counter("big").value, exact);
  await b.counter("big").add(-Number.MAX_SAFE_INTEGER);
  await until((nudge) => big.on(nudge), () => big.value === exact - BigInt(Number.MAX_SAFE_INTEGER));
  const c = client(gateway.field());
  await c.ready();
  assert.equal(c.counter("big").value, exact - BigInt(Number.MAX_SAFE_INTEGER));
  assert.throws(() => big.add(0.5), TypeError);

  const bytes = Uint8Array.of(255, 0, 128);
  await Promise.all([a.members("tags").add("text"), a.members("tags").add(bytes), a.members("tags").add(new TextEncoder().encode("é"))]);
  const tags = b.members("tags");
  await until((nudge) => tags.on(nudge), () => tags.values().length === 3);
  assert.ok(tags.has(bytes) && tags.has("é") && tags.has("text") && !tags.has("other"));
  assert.deepEqual(tags.values().filter((member) => typeof member !== "string"), [bytes]);
  await tags.delete(bytes);
  await until((nudge) => a.members("tags").on(nudge), () => !a.members("tags").has(bytes));
});

test("J1 C1-9: a write without the right is rolled back and reported, counts and members, too", async () => {
  const args = await tokens([{ token: "reader", field: "home", read: ["*"], write: ["mine/*"] }, { token: "all", field: "home", read: ["*"], write: ["*"] }]);
  const gateway = await durableGateway({ args });
  const admin = client(gateway.field(), { token: "all" });
  await admin.set("theirs", "stands");
  await admin.counter("theirs").add(7);
  await admin.members("theirs").add("old");
  const a = client(gateway.field(), { token: "reader" });
  await a.ready();
  const changes = [];
  a.on("*", ({ key, value, old, by }) => changes.push([key, value, old, by]));
  const refused = [];
  a.onRefused(({ key, code, value }) => refused.push([key, code, value]));
  const writes = [a.set("theirs", "tried"), a.counter("theirs").add(5), a.members("theirs").delete("old"), a.members("theirs").add("new")];
  assert.equal(a.get("theirs"), "tried");
  assert.equal(a.counter("theirs").value, 12);
  assert.deepEqual(a.members("theirs").values(), ["new"]);
  for (const write of writes) await assert.rejects(Promise.resolve(write), { code: "right" });
  assert.equal(a.get("theirs"), "stands");
  assert.equal(a.counter("theirs").value, 7);
  assert.deepEqual(a.members("theirs").values(), ["old"]);
  assert.deepEqual(changes, [["theirs", "tried", "stands", "me"], ["theirs", "stands", "tried", "rollback"]]);
  assert.equal(refused.length, 4);
  assert.equal(await a.set("mine/1", 1), "durable");
  // The refused amount must not come back with the next one.
  const b = client(gateway.field(), { token: "all" });
  await b.ready();
  assert.equal(b.counter("theirs").value, 7);
});

test("J2: own text never falls back while another one writes the same key, and ends as typed", async () => {
  const gateway = await durableGateway({ limits: { messages_per_second: 5_000, messages_burst: 5_000 } });
  const a = client(gateway.field());
  const b = client(gateway.field());
  await Promise.all([a.ready(), b.ready()]);
  for (let run = 0; run < 100; run++) {
    const key = `text/${run}`;
    const shown = [];
    const off = a.on(key, ({ value }) => shown.push(value));
    b.set(key, "theirs");
    let text = "";
    let last;
    for (const letter of "typed text") {
      text += letter;
      last = a.set(key, text);
      if (run % 3) await new Promise(setImmediate);
    }
    await last;
    const watch = (nudge) => {
      const offs = [a.on(key, nudge), b.on(key, nudge)];
      return () => offs.forEach((off) => off());
    };
    await until(watch, () => a.get(key) === b.get(key), { what: `the same ${key} in both` });
    off();
    const own = shown.filter((value) => value !== "theirs");
    assert.deepEqual(own, [...new Set(own)], "no older own text comes back");
    for (let at = 1; at < own.length; at++) assert.ok(own[at].length > own[at - 1].length);
  }
});

test("J7: every write that was durable survives gateways that are killed", async () => {
  const gateway = await durableGateway({ limits: { messages_per_second: 5_000, messages_burst: 5_000 } });
  const a = client(gateway.field());
  await a.ready();
  const durable = new Set();
  const writes = [];
  let added = 0;
  for (let round = 0; round < 8; round++) {
    for (let at = 0; at < 100; at++) {
      const key = `key/${round}/${at}`;
      const write = a.set(key, at);
      writes.push(write);
      write.durable.then(() => durable.add(key));
      a.counter("sum").add(1);
      added += 1;
      if (at % 10 === 0) await new Promise(setImmediate);
    }
    await Promise.race(writes.slice(-50).map((write) => write.acked));
    await gateway.restart();
    a.retry();
    const b = client(gateway.field());
    const promised = [...durable];
    await b.ready();
    for (const key of promised) assert.ok(b.has(key), `${key} was durable`);
    await b.close();
  }
  await a.synced(60_000);
  assert.equal(durable.size, writes.length);
  const b = client(gateway.field());
  await b.ready();
  assert.equal(b.keys("key/*").length, writes.length);
  assert.equal(b.counter("sum").value, added);
  assert.equal(a.counter("sum").value, added);
});

test("J14: a wrong token is denied, a token function is asked once more, and its failure is only one more retry", async () => {
  const args = await tokens([{ token: "good", field: "home", read: ["*"], write: ["*"] }]);
  const gateway = await durableGateway({ args });
  const problems = [];
  const wrong = client(gateway.field(), { token: "wrong", onError: ({ code }) => problems.push(code) });
  await status(wrong, "denied");
  assert.deepEqual(problems, ["denied"]);
  const write = wrong.set("k", 1);

  let asked = 0;
  const renewed = client(gateway.field(), { token: async () => (++asked === 1 ? "expired" : "good") });
  await renewed.ready();
  assert.equal(asked, 2);
  assert.equal(await renewed.set("k", 2), "durable");

  let calls = 0;
  const errors = [];
  const flaky = client(gateway.field(), {
    token() {
      if (++calls < 3) throw new Error("no session");
      return "good";
    },
    onError: ({ code }) => errors.push(code),
  });
  await flaky.ready();
  assert.deepEqual(errors, ["token", "token"]);
  assert.equal(write.state, "local");
  await wrong.close();
  await assert.rejects(Promise.resolve(write), { code: "closed" });
});

test("the view: identities stay, changes come once, a callback may write, one that throws disturbs nobody", async () => {
  const gateway = await durableGateway();
  const a = client(gateway.field());
  const b = client(gateway.field());
  await Promise.all([a.ready(), b.ready()]);
  const given = { list: [1] };
  const write = a.set("object", given);
  const shown = a.get("object");
  given.list.push(2);
  assert.deepEqual(shown, { list: [1] });
  assert.throws(() => shown.list.push(2), TypeError);
  await write;
  assert.equal(a.get("object"), shown);
  a.set("object", { list: [1] });
  assert.equal(a.get("object"), shown);

  const calls = [];
  const errors = [];
  globalThis.reportError = (error) => errors.push(error.message);
  const signal = new AbortController();
  const offThrowing = a.on("n", () => {
    throw new Error("of a callback");
  });
  a.on("n", ({ value, old, by }) => {
    calls.push([value, old, by]);
    if (value === 1) a.set("n", 2);
  });
  a.on("n", ({ value }) => calls.push(value), { signal: signal.signal });
  a.set("n", 1);
  assert.deepEqual(calls, [[1, undefined, "me"], 1, [2, 1, "me"], 2]);
  assert.deepEqual(errors, ["of a callback", "of a callback"]);
  offThrowing();
  delete globalThis.reportError;
  signal.abort();
  calls.length = 0;
  a.batch(() => {
    a.set("n", 3);
    a.set("n", 4);
    a.delete("n");
    a.set("n", 5);
  });
  assert.deepEqual(calls, [[5, 2, "me"]]);
  await shows(b, "n", 5);
  const now = [];
  b.on("*", ({ key, value }) => now.push([key, value]), { now: true });
  assert.deepEqual(now.sort(), [["n", 5], ["object", { list: [1] }]]);
  assert.equal(await a.update("n", (old) => old + 1), "durable");
  assert.equal(await a.update("n", () => undefined), "durable");
  assert.equal(a.has("n"), false);
});

test("writes of one key replace each other before they are sent, and end as the one that took their place", async () => {
  const gateway = await durableGateway();
  const a = client(gateway.field());
  await a.ready();
  const writes = Array.from({ length: 50 }, (_, at) => a.set("slider", at));
  assert.deepEqual(new Set(await Promise.all(writes)), new Set(["durable"]));
  assert.ok(writes.slice(0, -1).every((write) => ["replaced", "durable"].includes(write.state)));
  assert.ok(writes.filter((write) => write.state === "durable").length <= 2);
});

test("a field without a disk acknowledges in memory", async () => {
  const gateway = await Gateway.start();
  const a = client(gateway.field());
  const write = a.set("k", 1);
  assert.equal(await write, "memory");
  await assert.rejects(write.durable, { code: "not-durable" });
  await a.synced(60_000);
});

test("without data ready waits, and rejects with a reason; synced does, too", async () => {
  const gateway = await Gateway.start();
  await gateway.kill();
  const a = client(gateway.field());
  a.set("k", 1);
  assert.equal(a.get("k"), 1);
  await assert.rejects(a.ready({ timeout: 50 }), { name: "TimeoutError", message: /offline|connecting/ });
  await assert.rejects(a.synced(50), { name: "TimeoutError", message: /^1 writes/ });
  const closed = assert.rejects(a.ready(), { code: "closed" });
  await a.close();
  await closed;
  assert.equal(a.status, "closed");
});

test("a sum never dips: counts of before the connection, behind a gateway that has others", async () => {
  const gateway = await durableGateway();
  const other = client(gateway.field());
  await other.counter("n").add(10);
  for (let round = 0; round < 20; round++) {
    const field = client(gateway.field());
    const sums = [];
    field.counter("n").on((sum) => sums.push(sum));
    field.counter("n").add(1);
    await field.synced();
    assert.equal(field.counter("n").value, 11 + round, "the sum is there once everything is confirmed");
    assert.deepEqual(sums, sums.toSorted((a, b) => a - b));
    await field.close();
  }
});

test("presence: others come, change and leave; the own is not among them", async () => {
  const gateway = await Gateway.start();
  const a = client(gateway.field());
  const b = client(gateway.field());
  await Promise.all([a.ready(), b.ready()]);
  const seen = until((nudge) => b.presence.on(nudge), () => [...b.presence.others().values()].some(({ x }) => x === 19));
  for (let x = 0; x < 20; x++) a.presence.set({ x });
  await seen;
  assert.deepEqual([...b.presence.others()], [[a.id, { x: 19 }]]);
  assert.equal(a.presence.others().size, 0);
  const gone = until((nudge) => b.presence.on(nudge), () => b.presence.others().size === 0);
  a.presence.set(null);
  await gone;
});

test("presence: those of a room, and who may not read it sees none of it", async () => {
  const args = await tokens([
    { token: "all", field: "home", read: ["*"], write: ["*"] },
    { token: "eight", field: "home", read: ["room/8/*"], write: [] },
  ]);
  const gateway = await Gateway.start({ args });
  const [a, b, everywhere, reader] = ["all", "all", "all", "all"].map((token) => client(gateway.field(), { token }));
  const eight = client(gateway.field(), { token: "eight" });
  const sees = (field, room, wanted) => {
    const now = () => JSON.stringify([...field.presence.others(room).values()].map(({ at }) => at).sort());
    return until((nudge) => field.presence.on(nudge, room), () => now() === JSON.stringify(wanted), { what: `${wanted} in ${room}, not ${now()}` });
  };
  const calls = [];
  reader.presence.on((others) => calls.push([...others.values()].map(({ at }) => at).sort().join()), "room/7/*");
  a.presence.set({ at: "a" }, "room/7/*");
  b.presence.set({ at: "b" }, "room/8/lamp");
  everywhere.presence.set({ at: "everywhere" });
  await sees(reader, undefined, ["a", "b", "everywhere"]);
  await sees(reader, "room/7/*", ["a", "everywhere"]);
  await sees(reader, "room/7/lamp", ["a", "everywhere"]);
  await sees(reader, "room/8/*", ["b", "everywhere"]);
  await sees(reader, "room/8/door", ["everywhere"]);
  await sees(reader, "room/*", ["a", "b", "everywhere"]);
  await sees(eight, undefined, ["b", "everywhere"]);
  await sees(eight, "room/7/*", []);
  const seven = reader.presence.others("room/7/*");
  b.presence.set({ at: "b2" }, "room/8/lamp");
  await sees(reader, "room/8/*", ["b2", "everywhere"]);
  assert.equal(reader.presence.others("room/7/*"), seven, "the same object until the room changes");
  a.presence.set(null, "room/7/*");
  a.presence.set({ at: "a" }, "room/8/*");
  await sees(reader, "room/7/*", ["everywhere"]);
  await sees(eight, undefined, ["a", "b2", "everywhere"]);
  everywhere.presence.set(null);
  await sees(reader, "room/7/*", []);
  assert.deepEqual(calls.slice(-2), ["everywhere", ""]);
  for (let at = 1; at < calls.length; at++) assert.notEqual(calls[at], calls[at - 1], "called when the room changes");
});

test("rights that change: what may be read now comes, what may not be read any more goes", async () => {
  const rights = (room) => [{ token: "guest", field: "home", read: [`room/${room}/*`], write: [] }, { token: "owner", field: "home", read: ["*"], write: ["*"] }];
  const args = await tokens(rights(7));
  const gateway = await durableGateway({ args, limits: { ping_interval_s: 1 } });
  const owner = client(gateway.field(), { token: "owner" });
  await owner.batch(() => [7, 8].forEach((room) => owner.set(`room/${room}/lamp`, room)));
  const guest = client(gateway.field(), { token: "guest" });
  const statuses = [];
  await guest.ready();
  guest.onStatus((status) => statuses.push(status));
  assert.deepEqual({ ...guest.snapshot() }, { "room/7/lamp": 7 });
  await writeFile(args[1], JSON.stringify(rights(8)));
  const changed = () => guest.has("room/8/lamp") && !guest.has("room/7/lamp");
  await until((nudge) => guest.on("*", nudge), changed, { what: "the names of the new rights" });
  await owner.set("room/8/lamp", "on");
  await shows(guest, "room/8/lamp", "on");
  assert.deepEqual(statuses, [], "the connection stayed");
});

test("a token that is not known any more: a new one is asked for, and the user sees no denial", async () => {
  const list = (token) => [{ token, field: "home", read: ["*"], write: ["*"] }];
  const args = await tokens(list("first"));
  const gateway = await durableGateway({ args, limits: { ping_interval_s: 1 } });
  const asked = [];
  const field = client(gateway.field(), { token: () => (asked.push(field?.status), asked.length === 1 ? "first" : "second") });
  await field.ready();
  const statuses = [];
  field.onStatus((status) => statuses.push(status));
  await writeFile(args[1], JSON.stringify(list("second")));
  await until((nudge) => field.onStatus(nudge), () => statuses.at(-1) === "online", { what: "the second token" });
  assert.deepEqual([statuses, asked.length], [["connecting", "online"], 2]);
  assert.equal(await field.set("k", 1), "durable");
});

test("a gateway that does not answer is given up, and another URL of the list is tried", async () => {
  const gateway = await durableGateway();
  const dead = await Gateway.start();
  await dead.kill();
  const a = client([dead.field(), gateway.field()]);
  assert.equal(await a.set("k", 1), "durable");
});

test("close leaves no handle: a script ends", async () => {
  const gateway = await durableGateway();
  const script = `
    import { connect } from "./dist/index.js";
    import WebSocket from "ws";
    const field = connect(${JSON.stringify(gateway.field())}, { WebSocket });
    await field.set("from", "script");
    field.presence.set({ here: true });
    await field.close();
    console.log("closed");`;
  const running = new Process(process.execPath, ["--input-type=module", "-e", script], { cwd: root });
  await running.line(/^closed$/);
  assert.equal(await within(60_000, running.exited, "the end of the script"), 0);
  // The other way round: an open client keeps it.
  const socket = new WebSocket(gateway.field(), "aether.field.v1");
  await once(socket, "open");
  socket.terminate();
});
