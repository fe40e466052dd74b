// The React hooks over a field in memory, in Chromium, with React 18 and 19.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { bundle, runInNode, VERSIONS } from "./react-build.mjs";
import { Browser, servePages, stopAll, within } from "./harness.mjs";

after(stopAll);

const INITIAL = JSON.stringify({
  entries: [
    { key: "title", value: "from the server", version: "1" },
    { key: "room/1", value: "a", version: "2" },
    { key: "__proto__", value: "a key like any other", version: "3" },
    { counter: "n", sum: "9007199254740993" },
    { set: "tags", member: "x", present: true, version: "4" },
    { set: "tags", member: { base64: "/w==" }, present: true, version: "5" },
  ],
});

const names = (await runInNode(await bundle("react-cases.mjs", "19", { platform: "node" }))).cases;

for (const version of VERSIONS) {
  describe(`React ${version}`, () => {
    let tab;
    let server;

    before(async () => {
      const code = await bundle("react-cases.mjs", version);
      server = await runInNode(
        await bundle(undefined, version, {
          platform: "node",
          contents: `import { renderToString } from "react-dom/server"; import { createElement } from "react"; import { App } from "./react-app.mjs";
            import * as client from "../src/react/index.ts"; import * as suspense from "../src/react/suspense.ts"; import { opened } from "./react-fake.mjs";
            export const render = (props, own = client) => renderToString(createElement(App, { client: own, ...props })); export const alone = () => renderToString(createElement(() => client.useValue("a")[0])); export { client, suspense, opened };`,
        }),
      );
      const pages = await servePages({ "/cases.html": `<!doctype html><title>cases</title><body><script src="/cases.js"></script>`, "/cases.js": code });
      tab = await (await (await Browser.start()).profile()).tab(`${pages.url}/cases.html`);
    });

    test("the server renders what it was given, and opens nothing", () => {
      const html = server.render({ url: "ws://never", initial: INITIAL });
      assert.match(html, /<h1>from the server<\/h1>/);
      assert.match(html, /absent room\/1=a 3 9007199254740993 x,255 0 connecting 0 false connecting 0/);
      assert.match(server.render({ url: "ws://never" }), /<h1>none<\/h1>/);
      assert.match(server.render({ url: "ws://never" }, { ...server.client, ...server.suspense }), /<h1>none<\/h1>/);
      assert.equal(server.opened.length, 0);
    });

    test("hooks outside of a provider say so", () => {
      assert.throws(() => server.alone(), /no <FieldProvider>/);
    });

    test("an input keeps what is typed, and its caret", async () => {
      await tab.run(() => (window.typed = window.bundled.cases.typing()));
      await tab.page.keyboard.type("bc");
      assert.deepEqual(await tab.run(() => window.typed()), ["abcd", 3, "abcd"]);
    });

    for (const name of Object.keys(names).filter((name) => name !== "typing")) {
      test(name, async (t) => {
        const given = { html: server.render({ url: "ws://never", initial: INITIAL }), initial: INITIAL };
        const said = await within(60_000, tab.run(([name, given]) => window.bundled.cases[name](given), [name, given]), name);
        if (typeof said === "string") t.diagnostic(said);
        assert.deepEqual(tab.errors.splice(0), []);
      });
    }
  });
}
