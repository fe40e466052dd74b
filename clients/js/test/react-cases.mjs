// The cases of the React hooks. They run in a page, with each version of React, over the field of react-fake.mjs.
import * as React from "react";
import { hydrateRoot, createRoot } from "react-dom/client";
import { flushSync } from "react-dom";
import * as client from "../src/react/index.ts";
import * as suspense from "../src/react/suspense.ts";
import { FakeBus, FakeField, opened } from "./react-fake.mjs";
import { App } from "./react-app.mjs";

const { createElement: h, StrictMode, useEffect, useState } = React;
const { FieldProvider, BusProvider } = client;

function equal(actual, expected, what) {
  const [a, b] = [actual, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: ${a}, expected ${b}`);
}

/** React has done everything that was asked of it: updates of stores run in microtasks, effects before the next task. */
const settled = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => resolve(port1.close());
  port2.postMessage(0);
}).then(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))));

/** Looks after each change of the page. */
const until = (page, look) => new Promise((resolve) => {
  const check = () => look() && resolve(observer.disconnect());
  const observer = new MutationObserver(check);
  observer.observe(page.container, { subtree: true, childList: true, characterData: true, attributes: true });
  check();
});

function mount(element, { strict = true } = {}) {
  const container = document.body.appendChild(document.createElement("div"));
  const root = createRoot(container);
  const render = (next) => flushSync(() => root.render(strict ? h(StrictMode, null, next) : next));
  render(element);
  return { container, root, render, unmount: () => flushSync(() => root.unmount()), get text() { return container.textContent; } };
}

/** A component that shows what a hook gives, and counts its commits, or its renders outside of StrictMode. */
function probe(use) {
  const seen = { renders: 0, commits: 0, all: [] };
  function Probe(props) {
    seen.renders += 1;
    const value = use(props);
    seen.last = value;
    useEffect(() => {
      seen.commits += 1;
      seen.all.push(value);
    });
    return h("i", null, JSON.stringify(value));
  }
  return [Probe, seen];
}

export const cases = {
  async "a change renders the components of its key, once"() {
    const field = new FakeField({ a: 1, b: 2 });
    const [A, a] = probe(() => client.useValue("a")[0]);
    const [B, b] = probe(() => client.useValue("b")[0]);
    const page = mount(h(FieldProvider, { field }, h(A), h(B)), { strict: false });
    await settled();
    equal([a.renders, b.renders], [1, 1], "renders of the mount");
    field.change("a", 5);
    await settled();
    equal([a.renders, b.renders, page.text], [2, 1, "52"], "after a change of a");
    field.change("c", 1);
    field.turn("online");
    await settled();
    equal([a.renders, b.renders], [2, 1], "after a change that nobody shows");
    page.unmount();
    equal(field.watched, 0, "callbacks left");
  },

  async "an own write renders once, and its confirmation does not"() {
    const field = new FakeField();
    const [A, a] = probe(() => client.useValue("a", 0).slice(0, 2));
    const page = mount(h(FieldProvider, { field }, h(A)), { strict: false });
    await settled();
    const [, set] = a.last;
    set(7);
    await settled();
    field.confirm();
    await settled();
    equal([a.renders, a.last[0]], [2, 7], "renders");
    equal(a.last[1] === set, true, "set is the same function");
    page.unmount();
  },

  async "set takes values, functions and undefined"() {
    const field = new FakeField();
    const [A, a] = probe(({ absent }) => client.useValue("a", absent).slice(0, 2));
    const page = mount(h(FieldProvider, { field }, h(A, { absent: 10 })));
    await settled();
    const set = a.last[1];
    set((old) => old + 1);
    equal(field.get("a"), 11, "from the default");
    set((old) => old + 1);
    set((old) => old + 1);
    equal(field.get("a"), 13, "functions one after the other");
    set(undefined);
    equal(field.has("a"), false, "deleted");
    page.render(h(FieldProvider, { field }, h(A, { absent: 20 })));
    await settled();
    equal([a.last[0], a.last[1] === set], [20, true], "another default, the same set");
    set((old) => old + 1);
    equal(field.get("a"), 21, "from the new default");
    set(() => undefined);
    equal(field.has("a"), false, "deleted by a function");
    const write = set(1);
    equal(typeof write.then, "function", "the write");
    page.unmount();
  },

  async "a component that takes another key shows its value at once"() {
    const field = new FakeField({ a: 1, b: 2 });
    const [A, a] = probe(({ name }) => [name, client.useValue(name)[0], client.useEntries(name).length]);
    const page = mount(h(FieldProvider, { field }, h(A, { name: "a" })), { strict: false });
    page.render(h(FieldProvider, { field }, h(A, { name: "b" })));
    await settled();
    equal(a.all, [["a", 1, 1], ["b", 2, 1]], "what was committed");
    field.change("a", 3);
    await settled();
    equal(a.renders, 2, "renders");
    page.unmount();
    equal(field.watched, 0, "callbacks left");
  },

  async "pending and status render only who reads them"() {
    const field = new FakeField();
    const [A, a] = probe(() => {
      const [value, set, { pending, status }] = client.useValue("a", 0);
      a.set = set;
      return [value, pending, status];
    });
    const [B, b] = probe(() => client.useValue("b", 0)[0]);
    const [C, c] = probe(() => client.useValue("a", 0)[2].pending);
    const page = mount(h(FieldProvider, { field }, h(A), h(B), h(C)));
    await settled();
    equal(a.last, [0, false, "connecting"], "at first");
    field.turn("online");
    await settled();
    equal(a.last, [0, false, "online"], "online");
    const before = b.commits;
    a.set(1);
    await settled();
    equal([a.last, c.last], [[1, true, "online"], true], "a write");
    field.confirm();
    await settled();
    equal([a.last, c.last], [[1, false, "online"], false], "confirmed");
    a.set(2);
    field.confirm(new Error("refused"));
    await settled();
    equal([a.last[1], b.commits - before], [false, 0], "refused");
    page.unmount();
    equal(field.watched, 0, "callbacks left");
  },

  async "entries: the same list until one changes, one render for many"() {
    const field = new FakeField({ "room/1": "a", "room/2": "b", other: 1 });
    const [A, a] = probe(() => client.useEntries("room/*"));
    const [B, b] = probe(() => client.useEntries("room/*", (entries) => entries.length));
    const [C, c] = probe(() => client.useEntries("room/*", (entries) => entries.map(([key]) => key), (x, y) => x.join() === y.join()));
    const page = mount(h(FieldProvider, { field }, h(A), h(B), h(C)), { strict: false });
    await settled();
    equal(a.last, [["room/1", "a"], ["room/2", "b"]], "entries");
    field.change("other", 2);
    await settled();
    equal([a.renders, b.renders, c.renders], [1, 1, 1], "another pattern");
    const keys = c.last;
    field.change("room/1", "c");
    await settled();
    equal([a.renders, b.renders, c.renders, a.last[0][1]], [2, 1, 1, "c"], "a value");
    for (let n = 3; n < 500; n += 1) field.change(`room/${n}`, n);
    await settled();
    equal([a.renders, b.renders, c.renders, b.last, c.last.length], [3, 2, 2, 499, 499], "many at once");
    page.render(h(FieldProvider, { field }, h(A), h(B), h(C)));
    await settled();
    const again = c.last;
    page.render(h(FieldProvider, { field }, h(A), h(B), h(C)));
    await settled();
    equal([again === c.last, keys === c.last], [true, false], "a selection that is equal is the same object");
    page.unmount();
    equal(field.watched, 0, "callbacks left");
  },

  async "counters and sets"() {
    const field = new FakeField();
    const [A, a] = probe(() => client.useCounter("n"));
    const [B, b] = probe(() => client.useMembers("tags"));
    const page = mount(h(FieldProvider, { field }, h(A), h(B)));
    await settled();
    const [, add] = a.last;
    const [none, tags] = b.last;
    equal([a.last[0], none], [0, []], "at first");
    add(3);
    add(-1);
    tags.add("x");
    tags.add("y");
    tags.delete("x");
    await settled();
    equal([a.last[0], b.last[0]], [2, ["y"]], "after changes");
    equal([a.last[1] === add, b.last[1] === tags], [true, true], "functions are the same");
    const [same] = b.last;
    page.render(h(FieldProvider, { field }, h(A), h(B)));
    equal(b.last[0] === same, true, "the same list");
    page.unmount();
    equal(field.watched, 0, "callbacks left");
  },

  async "presence is announced while mounted"() {
    const field = new FakeField();
    const [A] = probe(({ at, room }) => client.usePresence({ at }, room));
    const [B, b] = probe(() => [...client.useOthers("room/1")]);
    const tree = (at, room) => h(FieldProvider, { field }, h(A, { at, room }), h(B));
    const page = mount(tree(1, "room/1"));
    await settled();
    equal(field.announced.at(-1), [{ at: 1 }, "room/1"], "announced in StrictMode");
    field.announced.length = 0;
    page.render(tree(1, "room/1"));
    page.render(tree(2, "room/1"));
    equal(field.announced, [[{ at: 2 }, "room/1"]], "once for another value, and never taken back in between");
    page.render(tree(2, "room/2"));
    equal(field.announced.slice(1), [[null, "room/1"], [{ at: 2 }, "room/2"]], "another room");
    field.participants.set("p", { at: "room/1", value: { cursor: 1 } });
    field.presences.emit();
    await settled();
    equal(b.last, [["p", { cursor: 1 }]], "others");
    page.unmount();
    equal([field.announced.at(-1), field.watched], [[null, "room/2"], 0], "taken back");
  },

  async "status, pending, refused and superseded"() {
    const field = new FakeField();
    const [A, a] = probe(() => [client.useStatus(), client.usePending()]);
    const calls = [];
    function B({ name }) {
      client.useRefused((refusal) => calls.push([name, refusal.code]));
      client.useSuperseded((loss) => calls.push([name, loss.lost]));
      return null;
    }
    const page = mount(h(FieldProvider, { field }, h(A), h(B, { name: "first" })));
    page.render(h(FieldProvider, { field }, h(A), h(B, { name: "second" })));
    field.turn("offline");
    field.set("a", 1);
    await settled();
    equal(a.last, ["offline", 1], "values");
    field.refusals.emit({ code: "right" });
    field.losses.emit({ lost: 3 });
    equal(calls, [["second", "right"], ["second", 3]], "the callbacks of the last render, once");
    page.unmount();
    equal(field.watched, 0, "callbacks left");
  },

  async "providers of one URL share a client, also in StrictMode"() {
    opened.length = 0;
    const [A, a] = probe(() => client.useField());
    const [B, b] = probe(() => client.useField());
    const tree = (name) => h("p", null, h(FieldProvider, { url: "ws://one", options: { user: name } }, h(A)), h(FieldProvider, { url: "ws://one", options: { user: "u" } }, h(B)));
    const page = mount(tree("u"));
    await settled();
    equal([opened.length, a.last === b.last, opened[0].url, opened[0].options], [1, true, "ws://one", { user: "u" }], "one client");
    page.render(tree("v"));
    await settled();
    equal([opened.length, a.last === opened[1], b.last === opened[0]], [2, true, true], "another user");
    page.unmount();
    // Within a second the same client is used again.
    const again = mount(tree("u"));
    await settled();
    equal([opened.length, opened[0].closed], [2, false], "the client from before");
    again.unmount();
    const before = performance.now();
    equal(opened[0].closed, false, "not closed at once");
    await new Promise((resolve) => (opened[0].onClosed = resolve));
    equal([performance.now() - before > 900, opened[1].closed], [true, true], "closed after a second");
    const last = mount(tree("u"));
    await settled();
    equal(opened.length, 3, "a new client");
    last.unmount();
  },

  async "a field of the caller is not closed"() {
    const field = new FakeField();
    const other = new FakeField({ a: 2 });
    const [A, a] = probe(() => client.useValue("a", 0)[0]);
    const page = mount(h(FieldProvider, { field }, h(A)));
    page.render(h(FieldProvider, { field: other }, h(A)));
    equal([a.last, field.watched], [2, 0], "another field");
    page.unmount();
    equal([field.closed, other.closed], [false, false], "closed");
  },

  async "Activity keeps the client for a second, and gets another one afterwards"() {
    const { Activity } = React;
    if (!Activity) return "there is no Activity in this React";
    opened.length = 0;
    const [A, a] = probe(() => client.useValue("a", 0)[0]);
    const tree = (mode) => h(Activity, { mode }, h(FieldProvider, { url: "ws://two" }, h(A)));
    const page = mount(tree("visible"));
    page.render(tree("hidden"));
    page.render(tree("visible"));
    await settled();
    equal(opened.length, 1, "hidden and shown");
    const [first] = opened;
    page.render(tree("hidden"));
    await new Promise((resolve) => (first.onClosed = resolve));
    page.render(tree("visible"));
    await settled();
    equal([opened.length, first.watched], [2, 0], "another client");
    opened[1].change("a", 4);
    await settled();
    equal(a.last, 4, "of the new one");
    page.unmount();
    return undefined;
  },

  async "a page shows what the server rendered, and then the field"({ html, initial }) {
    const field = new FakeField();
    field.turn("online"); // before React has begun: the first render must not show it
    field.values.set("title", "new");
    const container = document.body.appendChild(document.createElement("div"));
    container.innerHTML = html;
    const problems = [];
    const log = console.error;
    console.error = (...texts) => problems.push(texts.join(" "));
    const before = container.innerHTML;
    const texts = [];
    new MutationObserver(() => texts.push(container.textContent)).observe(container, { subtree: true, childList: true, characterData: true });
    const root = hydrateRoot(container, h(App, { client, field, initial }), { onRecoverableError: (error) => problems.push(String(error)) });
    await settled();
    console.error = log;
    equal([problems, before.includes("from the server")], [[], true], "hydration");
    equal(container.querySelector("h1").textContent, "new", "then the field");
    root.unmount();
    return texts.length;
  },

  async "Suspense waits for the first data only"() {
    const field = new FakeField();
    const [A, a] = probe(() => suspense.useValue("a", "none")[0]);
    const [B, b] = probe(() => [suspense.useEntries("*").length, suspense.useCounter("n")[0], suspense.useMembers("m")[0].length]);
    const tree = () => h(FieldProvider, { field }, h(React.Suspense, { fallback: "waits" }, h(A), h(B)));
    const page = mount(tree());
    await settled();
    equal(page.text, "waits", "without data");
    field.load({ a: 1 });
    await until(page, () => !page.text.includes("waits"));
    equal([a.last, b.last, page.text.includes("waits")], [1, [1, 0, 0], false], "with data");
    const shown = [];
    const observer = new MutationObserver(() => shown.push(page.text));
    observer.observe(page.container, { subtree: true, childList: true, characterData: true });
    field.turn("connecting");
    field.change("a", undefined);
    page.render(tree());
    await settled();
    field.turn("offline");
    await settled();
    equal([a.last, shown.some((text) => text.includes("waits"))], ["none", false], "never again");
    page.unmount();
  },

  async "Suspense does not wait for data that are there, or cannot come"() {
    const shown = [];
    const Fallback = () => (shown.push("fallback"), "waits");
    const [A, a] = probe(() => suspense.useValue("a", "none")[0]);
    const tree = (props) => h(FieldProvider, props, h(React.Suspense, { fallback: h(Fallback) }, h(A)));
    const full = mount(tree({ field: new FakeField({ a: 1 }) }));
    const online = new FakeField();
    online.status = "online";
    const empty = mount(tree({ field: online }));
    const rendered = mount(tree({ field: new FakeField(), initial: '{"entries":[]}' }));
    await settled();
    equal(shown, [], "fallbacks");
    const denied = new FakeField();
    const failed = mount(tree({ field: denied }));
    equal(failed.text, "waits", "waits");
    denied.fail();
    await until(failed, () => failed.text !== "waits");
    equal([a.last, failed.text], ["none", '"none"'], "denied");
    for (const page of [full, empty, rendered, failed]) page.unmount();
  },

  async "waves: the last ones, and what was missed"() {
    const bus = new FakeBus();
    const [A, a] = probe(({ pattern, limit }) => client.useWaves(pattern, { limit, kinds: ["event"] }));
    const tree = (pattern, limit = 3) => h(BusProvider, { bus }, h(A, { pattern, limit }));
    const page = mount(tree("orders.>"));
    await settled();
    const open = () => bus.listenings.filter(({ ended }) => !ended);
    equal([open().length, open()[0].pattern, open()[0].options, a.last], [1, "orders.>", { kinds: ["event"] }, { waves: [], missed: 0 }], "one subscription");
    const commits = a.commits;
    open()[0].send(...[1, 2, 3, 4, 5].map((id) => ({ id, missed: id === 2 ? 7 : 0 })));
    await settled();
    equal([a.last.waves.map(({ id }) => id), a.last.missed, a.commits - commits], [[3, 4, 5], 7, 1], "the last three, in one render");
    page.render(tree("orders.>"));
    equal(bus.listenings.length, 2, "options that are equal"); // two, because of StrictMode
    page.render(tree("other.>"));
    equal(a.last, { waves: [], missed: 0 }, "another pattern");
    open()[0].fail("refused");
    await settled();
    equal(a.last.error, "refused", "the reason of the end");
    page.unmount();
    await settled();
    equal(open().filter(({ error }) => !error).length, 0, "subscriptions left");
  },

  /** The page for a test that types. */
  typing() {
    const field = new FakeField({ text: "ad" });
    function Input() {
      const [text, set] = client.useValue("text", "");
      const [own = []] = client.useEntries("text");
      return h("input", { value: own[1] === text ? text : "differs", onChange: (event) => set(event.target.value) });
    }
    const { container } = mount(h(FieldProvider, { field }, h(Input)));
    const input = container.querySelector("input");
    input.focus();
    input.setSelectionRange(1, 1);
    return () => [input.value, input.selectionStart, field.get("text")];
  },
};

export { opened, React, useState };
