// The bus of a program of Node against the gateway, and against programs in Rust behind it.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { bus } from "../dist/index.js";
import { Browser, Gateway, Process, Proxy, aether, folder, freePort, onStop, root, servePages, stopAll, until, within } from "./harness.mjs";

const NATS = process.env.AETHER_NATS_SERVER;

/** A bus to this gateway, which is closed at the end. */
function guest(url, options = {}) {
  const made = bus(url, { WebSocket, ...options });
  onStop(() => made.close());
  return made;
}

const status = (of, wanted) => until((nudge) => of.onStatus(nudge), () => of.status === wanted, { what: `the status ${wanted}` });
const failed = (promise) => within(60_000, promise.then((value) => assert.fail(`resolved with ${JSON.stringify(value)}`), (error) => error));
const next = async (listening) => (await within(60_000, listening.next(), "the next wave")).value;

let gateway;
before(async () => {
  gateway = await Gateway.start({ fields: {} });
});
after(stopAll);

describe("waves", () => {
  test("a wave has everything that it was emitted with", async () => {
    const shop = guest(gateway.bus);
    const heard = shop.listen("a.*");
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const first = await shop.emit("a.b", { x: [1, null, "ö"] });
    const second = await shop.emit("a.c", "text", {
      amplitude: 0.9,
      kind: "command",
      key: "7",
      halfLife: 8192,
      phase: "retract",
      cause: first,
      metadata: { a: "b", __proto__x: "y" },
      contentType: "text/plain",
      traceparent,
    });
    assert.match(first.id, /^gateway@[0-9a-f]+\/\d+$/);
    assert.ok(first.receivers >= 1);
    assert.equal(first.waited, false);
    const one = await next(heard);
    const { channel, kind, payload, contentType, missed, gap, cut, bytes, phase, cause } = one;
    assert.deepEqual(
      { channel, kind, payload, contentType, missed, gap, cut, bytes, phase, cause },
      { channel: "a.b", kind: "event", payload: { x: [1, null, "ö"] }, contentType: "application/json", missed: 0, gap: false, cut: false, bytes: 19, phase: 0, cause: undefined },
    );
    assert.equal(one.id, first.id);
    assert.ok(Math.abs(one.emittedAt - Date.now()) < 60_000);
    const two = await next(heard);
    assert.deepEqual([two.id, two.kind, two.key, two.halfLife, two.cause, two.root], [second.id, "command", "7", 8192, first.id, first.id]);
    assert.deepEqual([two.payload, two.contentType, two.trace], ["text", "text/plain", traceparent]);
    assert.ok(Math.abs(two.amplitude - 0.9) < 0.01 && Math.abs(two.phase - Math.PI) < 0.01);
    assert.deepEqual({ ...two.metadata }, { a: "b", __proto__x: "y", traceparent });
    assert.equal(shop.counts.emitted, 2);
  });

  test("payloads: JSON, text, bytes, none; each as what it was", async () => {
    const shop = guest(gateway.bus);
    const heard = shop.listen("p.>");
    const bytes = new Uint8Array(1000).map((_, at) => at);
    for (const payload of [null, false, 0, "", "s", [], { a: { b: 1 } }]) await shop.emit("p.json", payload);
    for (const payload of [null, false, 0, "", "s", [], { a: { b: 1 } }]) assert.deepEqual((await next(heard)).payload, payload);
    await shop.emit("p.bytes", bytes);
    assert.deepEqual((await next(heard)).payload, bytes);
    await shop.emit("p.none");
    const none = await next(heard);
    assert.deepEqual([none.payload, none.bytes, none.cut], [undefined, 0, false]);
    await shop.emit("p.long", "x".repeat(20_000), { contentType: "text/plain" });
    const long = await next(heard);
    assert.deepEqual([long.cut, long.bytes, long.payload], [true, 20_000, "x".repeat(8192)]);
  });

  test("what a wave cannot hold is a TypeError that says where, and nothing is sent", async () => {
    const shop = guest(gateway.bus);
    await status(shop, "online");
    for (const [payload, options, says] of [
      [{ a: [1, undefined] }, {}, /\["a"\]\[1\] is not JSON: undefined/],
      [Number.NaN, {}, /NaN/],
      [1n, {}, /bigint/],
      [new Date(), {}, /Date/],
      ["\ud800", {}, /surrogate/],
      ["\ud800", { contentType: "text/plain" }, /surrogate/],
      [1, { amplitude: "1" }, /amplitude/],
      [1, { halfLife: -1 }, /halfLife/],
      [1, { kind: "wave" }, /event, command/],
      [1, { key: 7 }, /key/],
      [1, { metadata: { a: 1 } }, /metadata\.a/],
    ]) {
      const error = await failed(shop.emit("a.b", payload, options));
      assert.ok(error instanceof TypeError && says.test(error.message), error.message);
    }
    assert.throws(() => shop.listen(7), TypeError);
    assert.throws(() => shop.listen("a", { perSecond: 0.5 }), TypeError);
    assert.equal(shop.counts.emitted, 0);
  });

  test("what the gateway refuses rejects with its reason", async () => {
    const shop = guest(gateway.bus);
    const error = await failed(shop.emit("a b", 1));
    assert.deepEqual([error.name, error.reason], ["BusError", "wave"]);
    assert.match(error.message, /printable ASCII/);
    assert.equal((await failed(shop.emit("a.b", 1, { amplitude: 2 }))).reason, "wave");
    assert.equal((await failed(shop.emit("a.b", "x".repeat(70_000)))).reason, "message_size");
    assert.equal((await failed(shop.listen("a..b").ready)).reason, "filter");
    assert.equal((await failed(shop.listen("a..b").next())).reason, "filter");
    assert.equal(shop.counts.refused, 3);
    // The connection has survived it.
    assert.ok((await shop.emit("a.b", 1)).id);
  });

  test("a filter is the gateway's: kinds, amplitude, source, rate", async () => {
    const shop = guest(gateway.bus);
    const strong = shop.listen("f.>", { minAmplitude: 0.7, kinds: ["command", "event"] });
    const nobody = shop.listen("f.>", { source: "somebody-else" });
    const slow = shop.listen("f.>", { perSecond: 2 });
    await Promise.all([strong.ready, nobody.ready, slow.ready]);
    await shop.emit("f.a", 1, { amplitude: 0.5 });
    await shop.emit("f.a", 2, { amplitude: 0.9 });
    await shop.emit("f.a", 3, { amplitude: 0.9, kind: "broadcast" });
    await shop.emit("f.a", 4, { amplitude: 1, kind: "command" });
    assert.deepEqual([(await next(strong)).payload, (await next(strong)).payload], [2, 4]);
    const [first, second] = [await next(slow), await next(slow)];
    assert.deepEqual([first.payload, second.payload], [1, 2]);
    // The gateway counts what it leaves out with the waves that it sends next, some that came after them included. How many get
    // through depends on how long they take, so they come many at once until some are left out.
    let [missed, got, last] = [first.missed + second.missed, 2, second];
    let isHeard = false;
    const hearing = (async () => {
      do {
        last = await next(slow);
        got += 1;
        missed += last.missed;
      } while (!missed);
    })().finally(() => (isHeard = true));
    let number = 4;
    while (!isHeard) await Promise.all(Array.from({ length: 15 }, () => shop.emit("f.a", ++number)));
    await hearing;
    assert.ok(missed >= last.payload - got && missed <= number - got, `${missed} of ${number}, ${got} heard`);
    assert.ok(shop.counts.missed >= missed);
    let heard = false;
    nobody.next().then(({ done }) => (heard = !done));
    await nobody.return();
    assert.equal(heard, false);
  });
});

describe("a subscription", () => {
  test("ends with its loop, and gives its place to another", async () => {
    const shop = guest(gateway.bus);
    const all = [1, 2, 3, 4].map((number) => shop.listen(`s.${number}`));
    await Promise.all(all.map(({ ready }) => ready));
    const fifth = await failed(shop.listen("s.5").next());
    assert.deepEqual([fifth.name, fifth.reason], ["BusError", "subscriptions"]);
    // The same pattern and filter share one.
    const shared = shop.listen("s.1");
    await shop.emit("s.1", "x");
    assert.deepEqual([(await next(all[0])).payload, (await next(shared)).payload], ["x", "x"]);
    await shop.emit("s.1", "y");
    for await (const { payload } of all[0]) {
      assert.equal(payload, "y");
      break;
    }
    assert.deepEqual(await all[0].next(), { done: true, value: undefined });
    assert.equal((await next(shared)).payload, "y");
    await shared.return();
    const again = shop.listen("s.5");
    await again.ready;
    await shop.emit("s.5", "z");
    assert.equal((await next(again)).payload, "z");
  });

  test("begins with listen, and its buffer gives up the oldest and counts them", async () => {
    const shop = guest(gateway.bus);
    const heard = shop.listen("b.a", { buffer: 3 });
    const mark = shop.listen("b.a");
    for (let number = 1; number <= 10; number++) await shop.emit("b.a", number);
    for (let number = 1; number <= 10; number++) assert.equal((await next(mark)).payload, number);
    const got = [await next(heard), await next(heard), await next(heard)].map(({ payload, missed }) => [payload, missed]);
    assert.deepEqual(got, [[8, 7], [9, 0], [10, 0]]);
    assert.equal(shop.counts.missed, 7);
    // Several may wait at once, in order.
    const waiting = Promise.all([next(heard), next(heard)]);
    await shop.emit("b.a", 11);
    await shop.emit("b.a", 12);
    assert.deepEqual((await waiting).map(({ payload }) => payload), [11, 12]);
  });

  test("ends with its signal, by its reason", async () => {
    const shop = guest(gateway.bus);
    const aborting = new AbortController();
    const heard = shop.listen("c.a", { signal: aborting.signal });
    await heard.ready;
    const waiting = failed(heard.next());
    const reason = new Error("enough");
    aborting.abort(reason);
    assert.equal(await waiting, reason);
    assert.equal((await heard.next()).done, true);
    assert.equal(await failed(shop.listen("c.a", { signal: AbortSignal.abort(reason) }).next()), reason);
  });

  test("outlives the connection and the gateway, and tells of the gap once", async () => {
    const own = await Gateway.start({ fields: {} });
    const proxy = await Proxy.start(own.port);
    const shop = guest(`ws://127.0.0.1:${proxy.port}/ws`);
    const heard = shop.listen("g.a");
    await heard.ready;
    await shop.emit("g.a", 1);
    assert.deepEqual([(await next(heard)).gap, shop.counts.missed], [false, 0]);
    proxy.cut();
    await status(shop, "connecting");
    await status(shop, "online");
    await shop.emit("g.a", 2);
    await shop.emit("g.a", 3);
    const [two, three] = [await next(heard), await next(heard)];
    assert.deepEqual([two.payload, two.gap, three.payload, three.gap], [2, true, 3, false]);
    await own.kill();
    await until((nudge) => shop.onStatus(nudge), () => shop.status !== "online");
    // Nothing is lost that was not sent.
    const emitted = shop.emit("g.a", 4);
    await own.start();
    await within(60_000, emitted);
    const four = await next(heard);
    assert.deepEqual([four.payload, four.gap], [4, true]);
  });
});

describe("questions", () => {
  test("nobody listens: an AskError with the reason of the gateway", async () => {
    const shop = guest(gateway.bus);
    const error = await failed(shop.ask("nobody.here", 1, { patience: 60_000 }));
    assert.deepEqual([error.name, error.reason], ["AskError", "ask"]);
    assert.match(error.message, /nobody listens on nobody\.here/);
  });

  test("the patience holds without a connection, too", async () => {
    const port = await freePort();
    const shop = guest(`ws://127.0.0.1:${port}/ws`);
    const error = await failed(shop.ask("a.b", 1, { patience: 50 }));
    assert.deepEqual([error.name, error.reason], ["AskError", "patience"]);
  });
});

describe("limits", () => {
  test("350 waves at a slow gateway: none is refused, and the connection stays", async () => {
    const slow = await Gateway.start({ fields: {}, limits: { messages_per_second: 400, messages_burst: 100 } });
    const proxy = await Proxy.start(slow.port);
    const shop = guest(`ws://127.0.0.1:${proxy.port}/ws`, { queue: 350 });
    const heard = shop.listen("l.a");
    const all = Array.from({ length: 350 }, (_, number) => shop.emit("l.a", number));
    const over = await failed(shop.emit("l.a", 350));
    assert.deepEqual([over.name, over.reason], ["BusError", "queue"]);
    await within(60_000, Promise.all(all));
    for (let number = 0; number < 350; number++) assert.equal((await next(heard)).payload, number);
    assert.deepEqual([proxy.opened, shop.counts.emitted, shop.counts.refused], [1, 350, 1]);
  });

  test("an aborted wave that waits is never sent", async () => {
    const port = await freePort();
    const shop = guest(`ws://127.0.0.1:${port}/ws`);
    const aborting = new AbortController();
    const reason = new Error("too late");
    const gone = failed(shop.emit("d.a", "aborted", { signal: aborting.signal }));
    const sent = shop.emit("d.a", "sent");
    aborting.abort(reason);
    assert.equal(await gone, reason);
    const heard = shop.listen("d.a");
    await Gateway.start({ fields: {}, port });
    await within(60_000, sent);
    assert.equal((await next(heard)).payload, "sent");
  });

  test("a wave whose answer never came is `unknown`, and is not sent again", async () => {
    const own = await Gateway.start({ fields: {} });
    const proxy = await Proxy.start(own.port);
    const watcher = guest(own.bus);
    const heard = watcher.listen("u.a");
    await heard.ready;
    const shop = guest(`ws://127.0.0.1:${proxy.port}/ws`);
    await status(shop, "online");
    // The wave gets through, its answer does not.
    proxy.hold("back");
    const emitted = failed(shop.emit("u.a", "once"));
    const asked = failed(shop.ask("u.q", 1, { patience: 60_000 }));
    assert.equal((await next(heard)).payload, "once");
    proxy.cut();
    proxy.restore();
    const [error, question] = [await emitted, await asked];
    assert.deepEqual([error.name, error.reason, question.name, question.reason], ["BusError", "unknown", "AskError", "unknown"]);
    await shop.emit("u.a", "after");
    assert.equal((await next(heard)).payload, "after");
  });

  test("a connection that breaks 20 times: every wave that was confirmed is heard once, every other one at most once", async () => {
    const proxy = await Proxy.start(gateway.port);
    const watcher = guest(gateway.bus);
    const shop = guest(`ws://127.0.0.1:${proxy.port}/ws`);
    const heard = watcher.listen("n.a");
    await heard.ready;
    const outcomes = Array.from({ length: 600 }, (_, number) => shop.emit("n.a", number).then(() => "emitted", (error) => error.reason));
    const counts = new Array(600).fill(0);
    let cuts = 0;
    const listening = (async () => {
      for await (const { payload, missed, gap } of heard) {
        assert.deepEqual([missed, gap], [0, false]);
        if (payload === "end") break;
        counts[payload] += 1;
        if (cuts < 20 && payload % 25 === 0) (cuts += 1), proxy.cut();
      }
    })();
    // The pauses before it connects again are up to 5 s each.
    const reasons = await within(240_000, Promise.all(outcomes));
    await shop.emit("n.a", "end");
    await within(60_000, listening);
    assert.ok(cuts > 10, `${cuts}`);
    reasons.forEach((reason, number) => {
      if (reason === "emitted") assert.equal(counts[number], 1, `${number}`);
      else assert.ok(reason === "unknown" && counts[number] <= 1, `${number}: ${reason}, heard ${counts[number]} times`);
    });
    assert.ok(reasons.includes("unknown"), "no wave was under way when the connection broke");
  });

  test("what is under way can be given up; it is not taken back", async () => {
    const proxy = await Proxy.start(gateway.port);
    const shop = guest(`ws://127.0.0.1:${proxy.port}/ws`);
    const watcher = guest(gateway.bus);
    const heard = watcher.listen("w.a");
    await Promise.all([heard.ready, status(shop, "online")]);
    proxy.hold("back");
    const aborting = new AbortController();
    const emitted = failed(shop.emit("w.a", 1, { signal: aborting.signal }));
    const asked = failed(shop.ask("w.q", 1, { signal: aborting.signal, patience: 60_000 }));
    assert.equal((await next(heard)).payload, 1);
    aborting.abort(new Error("enough"));
    assert.deepEqual([(await emitted).message, (await asked).message], ["enough", "enough"]);
    proxy.restore();
    assert.ok((await within(60_000, shop.emit("w.a", 2))).id, "a late answer to what was given up disturbs nothing");
  });

  test("several gateways: the next one is tried when one is gone", async () => {
    const other = await Gateway.start({ fields: {} });
    const gone = await freePort();
    const shop = guest([`ws://127.0.0.1:${gone}/ws`, other.bus]);
    assert.ok((await within(60_000, shop.emit("v.a", 1))).id);
  });
});

describe("tokens", () => {
  const tokens = (list) => JSON.stringify(list);

  test("a gateway that wants a token says so; a new token gets in", async () => {
    const own = await Gateway.start({ fields: {}, env: { AETHER_WAVES_TOKEN: "a-secret-of-the-waves" } });
    const problems = [];
    const shop = guest(own.bus, { onError: (problem) => problems.push(problem) });
    const early = failed(shop.emit("t.a", 1));
    const listening = failed(shop.listen("t.a").next());
    assert.deepEqual([(await early).reason, (await listening).reason], ["no_token", "no_token"]);
    assert.deepEqual([shop.status, shop.needsToken, problems.map(({ code }) => code)], ["denied", true, ["denied"]]);
    assert.equal((await failed(shop.emit("t.a", 1))).reason, "no_token");

    const wrong = guest(own.bus, { token: "guessed" });
    assert.equal((await failed(wrong.emit("t.a", 1))).reason, "token");
    let asked = 0;
    const renewed = guest(own.bus, { token: async () => (++asked === 1 ? "expired" : "a-secret-of-the-waves") });
    assert.ok((await within(60_000, renewed.emit("t.a", 1))).id);
    assert.equal(asked, 2);
    // It is kept for the next connection.
    let current = "expired";
    const later = guest(own.bus, { token: () => current });
    await status(later, "denied");
    assert.equal((await failed(later.emit("t.a", 1))).reason, "token");
    current = "a-secret-of-the-waves";
    later.retry();
    await status(later, "online");
    assert.ok((await later.emit("t.a", 1)).id);
  });

  test("rights are the gateway's: hear one, emit another", async () => {
    const file = join(await folder(), "tokens.json");
    await writeFile(file, tokens([{ token: "a-long-secret-token", hear: ["r.a"], emit: ["r.b"] }]), { mode: 0o600 });
    const own = await Gateway.start({ fields: {}, args: ["--field-tokens", file] });
    const shop = guest(own.bus, { token: "a-long-secret-token" });
    assert.ok((await within(60_000, shop.emit("r.b", 1))).id);
    const error = await failed(shop.emit("r.a", 1));
    assert.deepEqual([error.name, error.reason], ["BusError", "right"]);
    await shop.listen("r.a").ready;
  });

  test("a token function that throws is one more attempt, not the end", async () => {
    let asked = 0;
    const problems = [];
    const shop = guest(gateway.bus, {
      token: () => {
        asked += 1;
        if (asked < 3) throw new Error("the login is away");
        return "any";
      },
      onError: ({ code }) => problems.push(code),
    });
    assert.ok((await within(60_000, shop.emit("t.b", 1))).id);
    assert.deepEqual([asked, problems], [3, ["token", "token"]]);
  });
});

describe("the end", () => {
  test("close rejects what waits, ends the loops, and is final", async () => {
    const port = await freePort();
    const shop = guest(`ws://127.0.0.1:${port}/ws`);
    const emitted = failed(shop.emit("e.a", 1));
    const heard = shop.listen("e.a");
    const loop = (async () => {
      for await (const wave of heard) assert.fail(wave.id);
    })();
    await shop.close();
    await within(60_000, loop);
    assert.equal((await emitted).reason, "closed");
    assert.equal((await failed(shop.emit("e.a", 1))).reason, "closed");
    assert.equal((await shop.listen("e.a").next()).done, true);
    assert.equal(shop.status, "closed");
  });

  test("a program ends after close, without anything left", async () => {
    const script = `
      import WebSocket from "ws"; import { bus } from "./dist/index.js";
      const shop = bus(${JSON.stringify(gateway.bus)}, { WebSocket });
      await shop.emit("e.b", 1);
      const heard = shop.listen("e.b"); await heard.ready;
      await shop.ask("nobody", 1).catch(() => {});
      await shop.close(); console.log("closed");`;
    const program = new Process(process.execPath, ["--input-type=module", "--eval", script], { cwd: root });
    assert.equal(await within(60_000, program.exited, "the end of the program"), 0, program.output);
    assert.match(program.output, /closed/);
  });

  test("an error in a callback stops nothing", async () => {
    const program = new Process(process.execPath, ["--input-type=module", "--eval", `
      import WebSocket from "ws"; import { bus } from "./dist/index.js";
      const shop = bus(${JSON.stringify(gateway.bus)}, { WebSocket });
      shop.onStatus(() => { throw new Error("mine"); });
      let last; shop.onStatus((status) => (last = status));
      await shop.emit("e.c", 1); await shop.close(); console.log(last);`], { cwd: root });
    assert.equal(await within(60_000, program.exited), 0, program.output);
    assert.match(program.output, /Error: mine/);
    assert.match(program.output, /closed/);
  });
});

describe("programs in Rust on NATS", { skip: NATS ? false : "set AETHER_NATS_SERVER" }, () => {
  let medium, own;
  before(async () => {
    const port = await freePort();
    const nats = new Process(NATS, ["-a", "127.0.0.1", "-p", String(port)]);
    await nats.line(/Server is ready/);
    medium = `nats://127.0.0.1:${port}`;
    own = await Gateway.start({ fields: {}, medium });
  });

  test("they hear what a guest emits, and it hears what they emit", async () => {
    const shop = guest(own.bus);
    const listening = new Process("/usr/bin/env", [process.env.AETHER_PROGRAM ?? "aether", "listen", "--json", "-n", "1", "x.from-js", "--medium", medium]);
    const heard = shop.listen("x.from-rust");
    await heard.ready;
    // It has no sign that it listens; waves are emitted until one is heard.
    let repeat = true;
    const emitting = (async () => {
      while (repeat) await shop.emit("x.from-js", { n: 7 }, { key: "k", amplitude: 1 });
    })();
    assert.equal(await within(60_000, listening.exited), 0, listening.output);
    repeat = false;
    await emitting;
    const line = listening.output.split("\n").find((line) => line.startsWith("{"));
    const wave = JSON.parse(line);
    assert.deepEqual([wave.channel, wave.key], ["x.from-js", "k"]);

    const { code, output } = await aether(["emit", "x.from-rust", '{"n":8}', "--key", "order-1", "--medium", medium]);
    assert.equal(code, 0, output);
    const { payload, key, source, missed } = await next(heard);
    assert.deepEqual([payload, key, source, missed], [{ n: 8 }, "order-1", "aether-emit", 0]);
  });

  test("a service answers a question, and a stopped one does not", async (t) => {
    // A client waits 2 s longer than its patience for what the gateway says. A slow gateway gets more time here.
    const { setTimeout: set } = globalThis;
    globalThis.setTimeout = (call, ms, ...more) => set(call, ms === 2_000 ? 60_000 : ms, ...more);
    t.after(() => (globalThis.setTimeout = set));
    const service = new Process(process.env.AETHER_PROGRAM ?? "aether", ["beta", "--medium", medium]);
    const shop = guest(own.bus);
    const levels = shop.listen("inventory.>");
    // Its heartbeat says that it is there.
    await next(levels);
    const answer = await shop.ask("inventory.reserve", { order: "1", sku: "lamp", quantity: 1 }, { patience: 60_000 });
    assert.deepEqual([answer.kind, answer.source !== "gateway", typeof answer.payload], ["response", true, "object"]);
    service.signal("SIGSTOP");
    const error = await failed(shop.ask("inventory.reserve", { order: "2", sku: "lamp", quantity: 1 }, { patience: 300 }));
    assert.deepEqual([error.name, error.reason], ["AskError", "ask"]);
    assert.match(error.message, /no answer on inventory\.reserve within/);
    const aborted = failed(shop.ask("inventory.reserve", { order: "3", sku: "lamp", quantity: 1 }, { signal: AbortSignal.timeout(100) }));
    assert.equal((await aborted).name, "TimeoutError");

    // The one that was given up is with the gateway for another while. Sixteen at once would keep the gateway from reading this client, so the others wait in the client, and a wave after them.
    const before = shop.counts.refused;
    const all = Array.from({ length: 20 }, (_, order) => failed(shop.ask("inventory.reserve", { order: `${order + 4}`, sku: "lamp", quantity: 1 }, { patience: 10_000 })));
    const listening = shop.listen("x.alive");
    const first = await Promise.race([listening.ready.then(() => "read meanwhile"), ...all]);
    assert.equal(first, "read meanwhile");
    const emitted = shop.emit("x.alive", 1);
    const reasons = (await Promise.all(all)).map(({ reason }) => reason);
    assert.deepEqual([reasons.filter((reason) => reason === "ask").length >= 14, shop.counts.refused - before], [true, 20]);
    assert.ok((await within(60_000, emitted)).id);
    assert.equal(shop.status, "online");
  });
});

test("in Chromium: emit, listen, ask, and a crash of the tab", async () => {
  const pages = await servePages();
  const browser = await Browser.start();
  const tab = await (await browser.profile()).tab(pages.url);
  await tab.until(() => window.aether);
  const shop = guest(gateway.bus);
  const heard = shop.listen("page.*");
  await heard.ready;
  const result = await tab.run(async (url) => {
    const shop = aether.bus(url);
    window.shop = shop;
    window.waves = [];
    const heard = shop.listen("node.*");
    await heard.ready;
    void (async () => {
      for await (const { payload, gap } of heard) window.waves.push([payload, gap]);
    })();
    const { receivers } = await shop.emit("page.here", new Uint8Array([0, 255]), { amplitude: 1 });
    const error = await shop.ask("nobody", 1, { patience: 60_000 }).catch((error) => error);
    return { receivers, error: [error.name, error.reason, error instanceof aether.AskError, error instanceof aether.BusError] };
  }, gateway.bus);
  assert.ok(result.receivers >= 2);
  assert.deepEqual(result.error, ["AskError", "ask", true, true]);
  assert.deepEqual((await next(heard)).payload, new Uint8Array([0, 255]));
  await shop.emit("node.a", { from: "node" });
  await tab.until(() => window.waves.length === 1);
  assert.deepEqual(await tab.run(() => window.waves), [[{ from: "node" }, false]]);
  await tab.crash();
  assert.ok((await shop.emit("node.a", 1)).id);
  await browser.close();
});
