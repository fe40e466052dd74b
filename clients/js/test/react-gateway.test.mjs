// React 18 and 19 over the real client and a gateway, in Chromium.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { bus, connect } from "../dist/index.js";
import { bundle, runInNode, VERSIONS } from "./react-build.mjs";
import { Browser, Gateway, Proxy, servePages, stopAll } from "./harness.mjs";

after(stopAll);

const INITIAL = `window.bundled.start(new URLSearchParams(location.search))`;
const CLIENT = `
  import * as client from "../src/react/index.ts";
  import { createElement } from "react";
  import { createRoot, hydrateRoot } from "react-dom/client";
  import { Page } from "./react-counter.mjs";
  export function start(query) {
    const initial = document.getElementById("initial")?.textContent;
    const element = createElement(Page, { client, url: query.get("url"), at: query.get("at"), initial });
    window.recovered = [];
    const root = document.getElementById("root");
    if (initial) return hydrateRoot(root, element, { onRecoverableError: (error) => window.recovered.push(String(error)) });
    const made = createRoot(root);
    made.render(element);
    return made;
  }
`;

let gateway;
let browser;

before(async () => {
  gateway = await Gateway.start();
  browser = await Browser.start();
});

for (const version of VERSIONS) {
  describe(`React ${version}`, () => {
    let pages;
    let proxy;
    let url;
    let rendered = { html: "", initial: "" };

    before(async () => {
      const code = await bundle(undefined, version, { fake: false, contents: CLIENT });
      const html = (root, initial) =>
        `<!doctype html><title>page</title><body><div id="root">${root}</div>${initial}<script src="/page.js"></script><script>window.root = ${INITIAL}</script>`;
      pages = await servePages({
        "/page.html": html("", ""),
        "/rendered.html": () => html(rendered.html, `<script type="application/json" id="initial">${rendered.initial.replaceAll("<", "\\u003c")}</script>`),
        "/page.js": code,
      });
      proxy = await Proxy.start(gateway.port);
      url = `ws://127.0.0.1:${proxy.port}/field/home/ws`;
    });

    const at = (page, name, to = url) => `${pages.url}/${page}.html?url=${encodeURIComponent(to)}&at=${name}`;
    const says = (tab, selector, text) => tab.until(([selector, text]) => document.querySelector(selector)?.textContent === text, [selector, text]);

    test("two tabs in StrictMode: one connection each profile, all clicks count, one render a change", async () => {
      const opened = proxy.opened;
      const [one, two] = await Promise.all([browser.profile(), browser.profile()]);
      const [a, b] = [await one.tab(at("page", "a")), await two.tab(at("page", "b"))];
      const online = (tab) => says(tab, "#text-info", "false online");
      await Promise.all([online(a), online(b)]);
      assert.equal(proxy.opened - opened, 2, "connections");
      const before = Number(await a.page.textContent("button"));
      await Promise.all([a, b].map((tab) => tab.run(() => { for (let n = 0; n < 10; n += 1) document.querySelector("button").click(); })));
      await Promise.all([a, b].map((tab) => says(tab, "button", String(before + 20))));
      await Promise.all([says(a, "#others", "b"), says(b, "#others", "a")]);

      const commits = await b.run(() => ({ ...window.commits }));
      await a.page.fill("#text", `hello ${version}`);
      await says(b, "#text-plain", `hello ${version}`);
      const after = await b.run(() => ({ ...window.commits }));
      assert.deepEqual([after.text - commits.text, after.other - commits.other, after.rooms - commits.rooms, after.clicks - commits.clicks], [1, 0, 0, 0]);
      await says(a, "#text-info", "false online");

      await one.close();
      await says(b, "#others", "");
      assert.deepEqual([...a.errors, ...b.errors], []);
      await b.run(() => window.root.unmount());
      await b.until(() => true);
      await two.close();
    });

    test("a client closes a second after the last unmount", async () => {
      const profile = await browser.profile();
      // Connections of other tests may end meanwhile, so it has a proxy of its own.
      const own = await Proxy.start(gateway.port);
      const tab = await profile.tab(at("page", "a", `ws://127.0.0.1:${own.port}/field/home/ws`));
      await says(tab, "#text-info", "false online");
      assert.equal(own.open, 1);
      // The page measures: by the time that this process looks, the second may be over.
      await tab.run(() => {
        const { close } = WebSocket.prototype;
        WebSocket.prototype.close = function (...how) {
          window.closedAt ??= performance.now();
          return close.apply(this, how);
        };
        window.unmountedAt = performance.now();
        window.root.unmount();
      });
      const lingered = await tab.until(() => window.closedAt && window.closedAt - window.unmountedAt);
      assert.ok(lingered > 900, `${lingered} ms`);
      for (const end = Date.now() + 60_000; own.open && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(own.open, 0);
      await profile.close();
    });

    test("waves of the bus, and Suspense", async () => {
      const contents = `
        import * as client from "../src/react/index.ts";
        import { useValue } from "../src/react/suspense.ts";
        import { createElement as h, StrictMode, Suspense } from "react";
        import { createRoot } from "react-dom/client";
        const query = new URLSearchParams(location.search);
        window.fallbacks = 0;
        function Last() {
          const { waves, missed, error } = client.useWaves("shop.>", { limit: 2 });
          return h("pre", { id: "waves" }, JSON.stringify([waves.map(({ payload }) => payload), missed, String(error ?? "")]));
        }
        function Text() { return h("p", { id: "suspended" }, useValue("suspended", "absent")[0]); }
        function Waits() { window.fallbacks += 1; return h("p", { id: "waits" }); }
        createRoot(document.getElementById("root")).render(
          h(StrictMode, null,
            h(client.BusProvider, { url: query.get("bus") }, h(Last)),
            h(Suspense, { fallback: h(Waits) }, h(client.FieldProvider, { url: query.get("url"), options: { persist: "memory" } }, h(Text)))));
      `;
      const code = await bundle(undefined, version, { fake: false, contents });
      const page = await servePages({ "/waves.html": `<!doctype html><title>waves</title><div id="root"></div><script src="/waves.js"></script>`, "/waves.js": code });
      const emitter = bus(gateway.bus, { WebSocket });
      const opened = proxy.opened;
      proxy.hold(); // nothing comes, so there are no data
      const tab = await (await browser.profile()).tab(`${page.url}/waves.html?bus=${encodeURIComponent(gateway.bus)}&url=${encodeURIComponent(url)}`);
      await tab.until(() => document.querySelector("#waits"));
      proxy.restore();
      await says(tab, "#suspended", "absent");
      await tab.until(() => !document.querySelector("#waits"));
      const fallbacks = await tab.run(() => window.fallbacks);
      proxy.refuse();
      proxy.restore();
      const field = connect(gateway.field(), { WebSocket, persist: "memory" });
      await field.set("suspended", version);
      await says(tab, "#suspended", version);
      assert.equal(await tab.run(() => window.fallbacks), fallbacks);
      assert.equal(proxy.opened - opened, 2, "connections: one, and one after it was cut");
      await field.delete("suspended");
      await field.close();

      // Until the page hears; the number says which it was.
      for (let n = 0; n < 4 || !(await tab.run(() => document.querySelector("#waves").textContent.includes("n"))); n += 1) await emitter.emit("shop.sold", { n });
      await emitter.emit("shop.sold", { n: "last" });
      await tab.until(() => /^\[\[\{"n":\d+\},\{"n":"last"\}\],0,""\]$/.test(document.querySelector("#waves").textContent));
      await emitter.close();
      assert.deepEqual(tab.errors, []);
    });

    test("the server renders, the page hydrates and goes on", async () => {
      const field = connect(gateway.field(), { WebSocket, persist: "memory" });
      await field.ready();
      await Promise.all([field.set("text", `<b>${version}</b>`), field.set("room/1", "lamp"), field.set("room/2", "door"), field.counter("clicks").add(1)]);
      const initial = field.dehydrate();
      const server = await runInNode(
        await bundle(undefined, version, {
          fake: false,
          platform: "node",
          contents: `import * as client from "../src/react/index.ts"; import { createElement } from "react"; import { renderToString } from "react-dom/server";
            import { Page } from "./react-counter.mjs"; export const render = (props) => renderToString(createElement(Page, { client, ...props }));`,
        }),
      );
      rendered = { html: server.render({ url, at: "c", initial }), initial };
      assert.match(rendered.html, /room\/1=lamp/);
      assert.ok(rendered.html.includes(`&lt;b&gt;${version}&lt;/b&gt;`));

      proxy.refuse(); // what is shown first comes from the server of the page
      const profile = await browser.profile();
      const tab = await profile.tab(at("rendered", "c"));
      await says(tab, "#text-info", "false offline");
      assert.equal(await tab.page.innerHTML("ul"), "<li>room/1=lamp</li><li>room/2=door</li>");
      assert.equal(await tab.page.inputValue("#text"), `<b>${version}</b>`);
      await field.set("room/2", "window");
      proxy.restore();
      await tab.until(() => document.querySelector("ul").textContent.includes("window"));
      assert.equal(await tab.page.innerHTML("ul"), "<li>room/1=lamp</li><li>room/2=window</li>");
      assert.deepEqual([await tab.run(() => window.recovered), tab.errors], [[], []]);
      await Promise.all([field.delete("room/1"), field.delete("room/2")]);
      await field.close();
      await profile.close();
    });
  });
}
