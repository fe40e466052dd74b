// The packed tarball in Vite, webpack and Next, in Deno, Bun and Node with its own WebSocket, and its types in old versions of
// TypeScript. `npm ci` here comes first.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Browser, Gateway, Process, freePort, servePages, stopAll, within } from "../harness.mjs";
import { project } from "./tarball.mjs";

after(stopAll);

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
const require = createRequire(import.meta.url);
const react = ["react", "react-dom", "scheduler"];
const run = promisify(execFile);

/** A page that shows a value of the field, and what it heard of its own wave. */
const app = (gateway) => `
import { bus, connect } from "@aether-bus/client";
import { FieldProvider, useValue } from "@aether-bus/client/react";
import { createElement as h, StrictMode } from "react";
import { createRoot } from "react-dom/client";

const field = connect(${JSON.stringify(gateway.field())}, { persist: "memory" });
function Count() {
  const [count, set] = useValue("count", 0);
  return h("button", { onClick: () => set((old) => old + 1) }, String(count));
}
createRoot(document.getElementById("root")).render(h(StrictMode, null, h(FieldProvider, { field }, h(Count))));
const shop = bus(${JSON.stringify(gateway.bus)});
const heard = shop.listen("bundled.*");
shop.emit("bundled.here", { from: "page" });
heard.next().then(({ value }) => (document.title = value.payload.from));
`;
const html = (script) => `<!doctype html><div id="root"></div><script type="module" src="${script}"></script>`;

async function works(url) {
  const browser = await Browser.start();
  const tab = await (await browser.profile()).tab(url);
  await tab.page.getByRole("button", { name: "0" }).click();
  await tab.page.getByRole("button", { name: "1" }).waitFor();
  await tab.until(() => document.title === "page");
  assert.deepEqual(tab.errors, []);
  await browser.close();
}

test("Vite", async () => {
  const gateway = await Gateway.start();
  const at = await project({ "package.json": '{"type":"module"}', "index.html": html("/main.js"), "main.js": app(gateway) }, { modules: react, from: modules });
  const vite = await import("vite");
  await vite.build({ root: at, logLevel: "error", configFile: false });
  const built = join(at, "dist");
  const files = await served(built);
  await works(`${(await servePages(files)).url}/index.html`);
});

test("webpack", async () => {
  const gateway = await Gateway.start();
  const at = await project({ "package.json": "{}", "main.js": app(gateway) }, { modules: react, from: modules });
  const webpack = require("webpack");
  const stats = await promisify(webpack)({ mode: "production", context: at, entry: "./main.js", output: { path: join(at, "dist"), filename: "main.js" } });
  assert.deepEqual([...stats.toJson().errors, ...stats.toJson().warnings.filter(({ message }) => !/size limit|limit the size/i.test(message))].map(({ message }) => message), []);
  const pages = await servePages({ ...(await served(join(at, "dist"))), "/index.html": html("/main.js") });
  await works(`${pages.url}/index.html`);
});

for (const [name, resolution] of [
  ["typescript-5.0", "node16"],
  ["typescript-5.0", "bundler"],
  ["typescript-5", "nodenext"],
]) {
  test(`the types compile with ${name}, resolution ${resolution}`, async () => {
    const compilerOptions = { module: resolution === "bundler" ? "esnext" : resolution, moduleResolution: resolution, target: "es2020", lib: ["es2020", "dom"], jsx: "react-jsx", types: [], strict: true, skipLibCheck: false, noEmit: true };
    const config = JSON.stringify({ compilerOptions, include: ["*.ts"] });
    const at = await project({ "package.json": '{"type":"module"}', "tsconfig.json": config }, { copy: join(here, "types") });
    const { stdout } = await run(process.execPath, [join(modules, name, "bin", "tsc"), "-p", at]).catch((error) => error);
    assert.equal(stdout, "");
  });
}

test("the types compile for a program of Node, without those of pages", async () => {
  const compilerOptions = { module: "nodenext", moduleResolution: "nodenext", target: "es2022", lib: ["es2022"], types: ["node"], strict: true, skipLibCheck: false, noEmit: true };
  const config = JSON.stringify({ compilerOptions, include: ["*.ts"] });
  const at = await project({ "package.json": '{"type":"module"}', "tsconfig.json": config }, { copy: join(here, "types"), modules: ["@types/node", "undici-types"], from: modules });
  const { stdout } = await run(process.execPath, [join(modules, "typescript-5", "bin", "tsc"), "-p", at]).catch((error) => error);
  assert.equal(stdout, "");
});

for (const [name, command] of [
  ["Deno", [join(modules, ".bin", "deno"), "run", "--allow-net", "--node-modules-dir=manual"]],
  ["Bun", [join(modules, ".bin", "bun"), "run"]],
  ["Node with its own WebSocket", [process.execPath, ...(globalThis.WebSocket ? [] : ["--experimental-websocket"])]],
]) {
  test(name, async () => {
    const gateway = await Gateway.start();
    const script = `
      import { bus, connect } from "@aether-bus/client";
      const shop = bus(${JSON.stringify(gateway.bus)});
      const heard = shop.listen("smoke.*");
      await shop.emit("smoke.here", { n: 1 });
      const field = connect(${JSON.stringify(gateway.field())}, { persist: "memory" });
      await field.ready();
      await field.set("smoke", true);
      console.log(JSON.stringify([(await heard.next()).value.payload, field.get("smoke"), shop.status, field.status]));
      await Promise.all([shop.close(), field.close()]);`;
    const at = await project({ "package.json": '{"type":"module"}', "smoke.mjs": script });
    const [program, ...args] = command;
    // It ends by itself, so nothing is left after close.
    const running = new Process(program, [...args, "smoke.mjs"], { cwd: at });
    assert.equal(await within(120_000, running.exited, `the end of ${name}`), 0, running.output);
    assert.match(running.output, /^\[\{"n":1\},true,"online","online"\]$/m);
  });
}

test("Next, app router", { timeout: 1_200_000 }, async () => {
  const gateway = await Gateway.start();
  const at = await project(
    {
      "package.json": '{"private":true}',
      "next.config.mjs": `export default { turbopack: { root: ${JSON.stringify("/")} } };`,
      "app/layout.js": "export default function Layout({ children }) { return <html><body>{children}</body></html>; }",
      // A component of the server renders hooks of the client; the entry itself says "use client".
      "app/page.js": `import { FieldProvider } from "@aether-bus/client/react";
        import { Count } from "./count.js";
        export const dynamic = "force-dynamic";
        export default function Page() { return <FieldProvider url=${JSON.stringify(gateway.field())}><Count /></FieldProvider>; }`,
      "app/count.js": `"use client";
        import { useValue } from "@aether-bus/client/react";
        export function Count() { const [count, set] = useValue("count", 0); return <button onClick={() => set((old) => old + 1)}>{String(count)}</button>; }`,
    },
    { modules: ["next", ...react, "styled-jsx", "client-only", "@swc/helpers", "@next/env"], from: modules },
  );
  await mkdir(join(at, "public"));
  const next = join(modules, "next", "dist", "bin", "next");
  const env = { NEXT_TELEMETRY_DISABLED: "1", NODE_ENV: "production" };
  const built = new Process(process.execPath, [next, "build"], { cwd: at, env });
  assert.equal(await built.exited, 0, built.output);
  const port = await freePort();
  const server = new Process(process.execPath, [next, "start", "-p", String(port), "-H", "127.0.0.1"], { cwd: at, env });
  await server.line(/Ready/i, 60_000);
  const body = await (await fetch(`http://127.0.0.1:${port}/`)).text();
  assert.match(body, /<button>0<\/button>/, "rendered on the server");
  const browser = await Browser.start();
  const tab = await (await browser.profile()).tab(`http://127.0.0.1:${port}/`);
  const button = tab.page.getByRole("button");
  await tab.until(() => Object.keys(document.querySelector("button")).some((name) => name.startsWith("__reactProps")));
  await button.click();
  await tab.page.getByRole("button", { name: "1" }).waitFor();
  assert.deepEqual(tab.errors, []);
});

/** All files of a folder, for `servePages`. */
async function served(folder) {
  const all = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    all[path.slice(folder.length)] = await readFile(path, "utf8");
  }
  return all;
}
