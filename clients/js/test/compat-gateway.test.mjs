// The class `Aether` with a gateway, in Node and in Chromium, next to a client that speaks 0.4 on the wire.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { Aether } from "../dist/compat.js";
import { bundle } from "./react-build.mjs";
import { colorOf, next } from "./compat-04.mjs";
import { Browser, folder as temporary, Gateway, Process, Proxy, root, servePages, stopAll } from "./harness.mjs";

after(stopAll);

let gateway;
let url;
before(async () => {
  gateway = await Gateway.start({ args: ["--field-root", "home"] });
  url = `ws://127.0.0.1:${gateway.port}`;
});

function open(t, options, at = url) {
  const aether = new Aether(at, { WebSocket, ...options });
  t.after(() => aether.close());
  return aether;
}

const value = (aether, key, accept) => (accept(aether.get(key)) ? aether.get(key) : next((callback) => aether.on(key, callback), accept).then(([value]) => value));
const connected = (aether, is = true) => next((callback) => aether.onStatus(callback), (now) => now === is);

/** A client of protocol 0.4, as it is on the wire. */
async function raw(t, at = url) {
  const socket = new WebSocket(at);
  t.after(() => socket.close());
  const messages = [];
  const waiting = new Set();
  socket.on("message", (data) => {
    messages.push(JSON.parse(data));
    for (const look of [...waiting]) look();
  });
  const message = (accept) =>
    new Promise((resolve) => {
      const look = () => {
        const at = messages.findIndex(accept);
        if (at < 0) return;
        waiting.delete(look);
        resolve(messages.splice(at, 1)[0]);
      };
      waiting.add(look);
      look();
    });
  const hello = await message(({ type }) => type === "hello");
  await message(({ type }) => type === "snapshot");
  return { hello, message, send: (message) => socket.send(JSON.stringify(message)) };
}

test("it and a client of protocol 0.4 see the same", async (t) => {
  const old = await raw(t);
  const aether = open(t);
  await aether.ready();
  aether.set("a", { n: 1 });
  assert.deepEqual(await old.message(({ key }) => key === "a"), { type: "set", key: "a", value: { n: 1 } });
  old.send({ type: "set", key: "b", value: [2] });
  assert.deepEqual(await value(aether, "b", (value) => value !== undefined), [2]);
  aether.delete("b");
  assert.deepEqual(await old.message(({ type, key }) => type === "delete" && key === "b"), { type: "delete", key: "b" });
  assert.deepEqual([aether.keys(), aether.snapshot()], [["a"], { a: { n: 1 } }]);
});

test("presence: the same ids and colours as in protocol 0.4", async (t) => {
  const old = await raw(t);
  const aether = open(t);
  await connected(aether);
  assert.equal(old.hello.color, colorOf(old.hello.id));
  aether.sendPresence(3.7, 4);
  assert.deepEqual(await old.message(({ type }) => type === "presence"), { type: "presence", id: aether.clientId, color: aether.clientColor, x: 3, y: 4 });
  const seen = next((callback) => aether.onPresence(callback), (id) => id === old.hello.id);
  old.send({ type: "presence", x: 5, y: 6 });
  assert.deepEqual(await seen, [old.hello.id, 5, 6, old.hello.color]);
  const id = aether.clientId;
  const leaves = old.message((message) => message.type === "presence-leave" && message.id === id);
  aether.close();
  await leaves;
  assert.deepEqual([aether.clientId, aether.clientColor, aether.connected], [null, null, false]);
});

test("onSupersede tells the loser, once, and never the winner", async (t) => {
  const [first, second] = await Promise.all([Proxy.start(gateway.port), Proxy.start(gateway.port)]);
  let began = performance.now();
  const [one, two] = [first, second].map(({ port }) => open(t, { maxReconnectDelayMs: 50 }, `ws://127.0.0.1:${port}`));
  await Promise.all([connected(one), connected(two)]);
  for (let round = 0; round < 5; round += 1) {
    const key = `race/${round}`;
    // A client knows the clock of the gateway to within half the round trip of its hello, which came after `began`.
    const apart = performance.now() - began + 5;
    const told = [];
    const lost = next((callback) => one.onSupersede(callback));
    const offs = [["one", one], ["two", two]].map(([name, aether]) => aether.onSupersede((key, ...values) => told.push([name, key, ...values])));
    first.refuse();
    second.refuse();
    await Promise.all([one, two].map((aether) => aether.connected && connected(aether, false)));
    one.set(key, "earlier");
    await new Promise((resolve) => setTimeout(resolve, apart)); // the times of the writes decide
    two.set(key, "later");
    began = performance.now();
    first.restore();
    await connected(one);
    second.restore();
    await connected(two);
    assert.equal(await value(one, key, (value) => value === "later"), "later");
    one.set(`${key}/end`, 1);
    await value(two, `${key}/end`, (value) => value === 1);
    assert.equal(two.get(key), "later");
    await lost;
    assert.deepEqual(told, [["one", key, "earlier", "later"]]);
    for (const off of offs) off();
  }
});

test("a write that cannot be, or that the gateway refuses, is undone", async (t) => {
  const aether = open(t);
  await connected(aether);
  aether.set("long", "short");
  aether.set("long", "x".repeat(40_000));
  assert.equal(aether.get("long"), "short");

  const folder = await temporary();
  const tokens = join(folder, "tokens.json");
  await writeFile(tokens, JSON.stringify([{ token: "reader", field: "home", read: ["*"], write: ["mine/*"] }]), { mode: 0o600 });
  const guarded = await Gateway.start({ args: ["--field-root", "home", "--field-tokens", tokens] });
  const reader = open(t, { authToken: "reader" }, `ws://127.0.0.1:${guarded.port}`);
  await connected(reader);
  const seen = [];
  reader.on("theirs", (value) => seen.push(value));
  const undone = next((callback) => reader.on("theirs", callback), (value) => value === undefined);
  reader.set("theirs", 1);
  assert.equal(reader.get("theirs"), 1);
  await undone;
  assert.deepEqual([seen, reader.has("theirs")], [[1, undefined], false]);
});

test("maxReconnectDelayMs bounds the pause", { timeout: 150_000 }, async (t) => {
  const proxy = await Proxy.start(gateway.port);
  const aether = open(t, { maxReconnectDelayMs: 50 }, `ws://127.0.0.1:${proxy.port}`);
  await connected(aether);
  // The field alone would wait for up to 5 s before each attempt, so these would take longer than a test may.
  let attempts = 0;
  const often = new Promise((resolve) => (proxy.onRefused = () => (attempts += 1) === 100 && resolve()));
  proxy.refuse();
  await often;
  proxy.restore();
  await connected(aether);
});

test("a token", async (t) => {
  const guarded = await Gateway.start({ args: ["--field-root", "home"], env: { AETHER_FIELD_TOKEN: "a secret&=" } });
  const at = `ws://127.0.0.1:${guarded.port}`;
  const aether = open(t, { authToken: "a secret&=" }, at);
  await connected(aether);
  const other = open(t, { authToken: "wrong" }, at);
  assert.equal(other.connected, false);
});

const python = process.env.AETHER_SYNC_ENGINE;
const engine = join(root, "..", "..", "aether-gateway", "tests", "suite", "black_box", "sync_engine.py");
test("a server of the sync engine", { skip: (!python || python === "none" || !existsSync(engine)) && "AETHER_SYNC_ENGINE names no python with aether-zta 0.4" }, async (t) => {
  const server = new Process(python, [engine, "-", "secret"]);
  const [, port] = await server.line(/^port (\d+)/);
  const at = `ws://127.0.0.1:${port}`;
  const [one, two] = [open(t, { authToken: "secret" }, at), open(t, { authToken: "secret" }, at)];
  await Promise.all([connected(one), connected(two)]);
  one.set("a", { n: 1 });
  assert.deepEqual(await value(two, "a", (value) => value !== undefined), { n: 1 });
  two.delete("a");
  await value(one, "a", (value) => value === undefined);
  const seen = next((callback) => two.onPresence(callback));
  one.sendPresence(1, 2);
  assert.deepEqual(await seen, [one.clientId, 1, 2, one.clientColor]);
  await server.kill();
});

test("a page: tabs share a connection, and what is written offline outlives it", async () => {
  const proxy = await Proxy.start(gateway.port);
  const at = `ws://127.0.0.1:${proxy.port}`;
  const pages = await servePages({ "/old.html": `<!doctype html><title>old</title><script src="/aether-compat.min.js"></script><script>window.aether = new Aether(${JSON.stringify(at)})</script>` });
  const profile = await (await Browser.start()).profile();
  await profile.keepsLeaders();
  const one = await profile.tab(`${pages.url}/old.html`);
  await one.until(() => window.aether.connected);
  const two = await profile.tab(`${pages.url}/old.html`);
  await two.until(() => window.aether.connected);
  assert.equal(proxy.open, 1, "connections");
  await one.run(() => window.aether.set("tabs", { from: "one" }));
  await two.until(() => window.aether.get("tabs")?.from === "one");
  for (const tab of [one, two]) {
    await tab.run(() => {
      window.seen = [];
      aether.onPresence((id, x, y) => seen.push([id, x, y]));
      aether.onPresenceLeave((id) => seen.push([id]));
    });
  }
  await one.run(() => window.aether.sendPresence(1, 2));
  const [id, ...position] = await two.until(() => window.seen[0]);
  assert.deepEqual(position, [1, 2]);
  await two.run(() => window.aether.sendPresence(3, 4));
  const [sibling] = await one.until(() => window.seen[0]);
  assert.notEqual(id, sibling);
  await two.close();
  assert.deepEqual(await one.until(() => window.seen[1]), [sibling]);

  proxy.refuse();
  await one.until(() => !window.aether.connected);
  await one.run(() => window.aether.set("offline", "kept"));
  await one.until(() => localStorage.getItem(`aether::state::${aether.url}`)?.includes("kept"));
  await one.until(isKept);
  await one.open(`${pages.url}/old.html`);
  assert.equal(await one.run(() => window.aether.get("offline")), "kept", "at once, from the cache");
  const other = new Aether(url, { WebSocket, persist: false });
  await other.ready();
  assert.equal(other.has("offline"), false);
  proxy.restore();
  await value(other, "offline", (value) => value === "kept");
  other.close();
  assert.deepEqual(one.errors, []);
  await profile.close();
});

/** In a page: whether the storage has a write of the key `offline`, which another page would send. */
async function isKept() {
  const done = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: () => reject(request.error) }));
  for (const { name } of await indexedDB.databases()) {
    const database = await done(indexedDB.open(name));
    const writes = await done(database.transaction("outbox").objectStore("outbox").getAll());
    database.close();
    if (writes.some((write) => write.name === "offline")) return true;
  }
  return false;
}

for (const version of ["16", "18", "19"]) {
  test(`the hooks with React ${version}`, async () => {
    const code = await bundle(undefined, version, {
      fake: false,
      contents: `
        import * as React from "react";
        import ReactDOM from "react-dom";
        import useAether, { configureAether, getAether, useAetherSnapshot, useAetherSupersede } from "../src/compat/react.ts";
        ${version === "16" ? "const createRoot = (at) => ({ render: (element) => ReactDOM.render(element, at), unmount: () => ReactDOM.unmountComponentAtNode(at) });" : 'import { createRoot } from "react-dom/client";'}
        const h = React.createElement;
        window.counts = { a: 0, b: 0, all: 0 };
        function Key({ name }) {
          const [value, set, { ready, connected, client }] = useAether(name, 0);
          // In one step with what it shows; other effects come some time after it.
          React.useLayoutEffect(() => void (window.counts[name] += 1));
          window[name] = { set, client };
          return h("button", { id: name, onClick: () => set((old = 0) => old + 1) }, [value, ready, connected].join());
        }
        function All() {
          const { data, setKey, deleteKey } = useAetherSnapshot();
          useAetherSupersede((...loss) => (window.loss = loss), []);
          Object.assign(window, { setKey, deleteKey });
          return h("pre", null, JSON.stringify(data));
        }
        try { getAether(); } catch (error) { window.failed = error instanceof TypeError; }
        try { configureAether({}); } catch (error) { window.failed &&= error instanceof TypeError; }
        configureAether({ url: new URLSearchParams(location.search).get("url") });
        window.same = getAether() === getAether();
        const root = createRoot(document.getElementById("root"));
        root.render(h(React.StrictMode, null, h(Key, { name: "a" }), h(Key, { name: "b" }), h(All)));
        window.root = root;
      `,
    });
    const pages = await servePages({ "/hooks.html": `<!doctype html><title>hooks</title><div id="root"></div><script src="/hooks.js"></script>`, "/hooks.js": code });
    const fresh = await Gateway.start({ args: ["--field-root", "home"] });
    const browser = await Browser.start();
    const tabs = [];
    for (const _ of [1, 2]) tabs.push(await (await browser.profile()).tab(`${pages.url}/hooks.html?url=${encodeURIComponent(`ws://127.0.0.1:${fresh.port}`)}`));
    const [one, two] = tabs;
    const says = (tab, selector, text) => tab.until(([selector, text]) => document.querySelector(selector)?.textContent === text, [selector, text]);
    await Promise.all(tabs.map((tab) => says(tab, "#a", "0,true,true")));
    assert.deepEqual(await one.run(() => [window.failed, window.same, window.a.client === window.b.client]), [true, true, true]);
    const before = await two.run(() => ({ ...window.counts }));
    await one.page.click("#a");
    await says(two, "#a", "1,true,true");
    await two.page.click("#a");
    await says(one, "#a", "2,true,true");
    const after = await two.run(() => ({ ...window.counts }));
    assert.deepEqual([after.a - before.a, after.b - before.b], [2, 0], "renders");
    await one.run(() => window.setKey("c", [1]));
    await says(two, "pre", '{"a":2,"c":[1]}');
    await two.run(() => (window.deleteKey("c"), window.a.set(undefined)));
    await says(one, "pre", "{}");
    await says(one, "#a", "0,true,true");
    assert.deepEqual(tabs.flatMap(({ errors }) => errors), []);
    await fresh.stop();
    await browser.close();
  });
}
