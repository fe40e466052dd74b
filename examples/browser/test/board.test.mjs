// Two tabs of the example beside the real order system: `npm test`, with the command `aether` in the PATH or in AETHER_PROGRAM,
// and Chromium in AETHER_CHROMIUM.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build, preview } from "vite";

const AETHER = process.env.AETHER_PROGRAM ?? "aether";
const CHROMIUM = process.env.AETHER_CHROMIUM ?? "/usr/bin/chromium";
const MS = 120_000;

// Of another folder if AETHER_NODE_MODULES names one.
const modules = process.env.AETHER_NODE_MODULES;
const { chromium } = createRequire(modules ? join(modules, "x.js") : import.meta.url)("playwright-core");

const root = fileURLToPath(new URL("..", import.meta.url));
const ends = [];
let browser;
let url;

before(async () => {
  const folder = await mkdtemp(join(tmpdir(), "aether-browser-"));
  ends.push(() => rm(folder, { recursive: true, force: true }));
  // Cards are never declined and stock never ends, so each order is completed and each question is answered with "reserved".
  const system = ["up", "--listen", "127.0.0.1:0", "--rate", "5", "--decline-rate", "0", "--units", "1000000"];
  process.env.VITE_GATEWAY = (await start(folder, [...system, "--field", "board", "--field-origin", "*"])).replace("http", "ws");

  const outDir = join(folder, "dist");
  const options = { root, logLevel: "error", build: { outDir, emptyOutDir: true } };
  await build(options);
  const server = await preview({ ...options, preview: { host: "127.0.0.1", port: 0, strictPort: false } });
  ends.push(() => new Promise((resolve) => (server.httpServer.close(resolve), server.httpServer.closeAllConnections?.())));
  url = `http://127.0.0.1:${server.httpServer.address().port}/`;

  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: CHROMIUM, args, timeout: MS });
  ends.push(() => browser.close());
});

after(async () => {
  for (const end of ends.reverse()) await end();
});

/** Starts the program in a folder without configuration, and returns its address. It ends with the tests. */
function start(cwd, args) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("AETHER_")));
  const child = spawn(AETHER, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("close", resolve).once("error", resolve));
  process.once("exit", () => child.kill("SIGKILL"));
  ends.push(async () => (child.kill("SIGTERM"), await ended));
  let errors = "";
  child.stderr.on("data", (text) => (errors = (errors + text).slice(-10_000)));
  return new Promise((resolve, reject) => {
    ended.then((code) => reject(new Error(`${AETHER} ended (${code}): ${errors}`)));
    createInterface(child.stdout).on("line", (line) => {
      const found = /gateway: (http:\/\/[^/]+)\//.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

test("two tabs share the counter and the filter, see orders, and get answers", async () => {
  const context = await browser.newContext();
  context.setDefaultTimeout(MS);
  const errors = [];
  const open = async () => {
    const page = await context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(url);
    await page.waitForFunction(() => document.querySelector("#status")?.textContent === "online");
    return page;
  };
  const tabs = [await open(), await open()];
  const [a, b] = tabs;
  const shows = (page, selector, text) =>
    page.waitForFunction(([selector, text]) => document.querySelector(selector)?.textContent === text, [selector, text]);

  await a.click("#likes", { clickCount: 3 });
  await b.click("#likes", { clickCount: 2 });
  await Promise.all(tabs.map((page) => shows(page, "#likes", "Likes: 5")));

  await Promise.all(tabs.map((page) => page.waitForSelector("#orders tr.completed")));

  // The filter of one tab is the filter of the other one.
  await a.selectOption("#sku", "lamp");
  await b.selectOption("#outcome", "completed");
  const isFiltered = () => {
    const rows = [...document.querySelectorAll("#orders tr")].map((row) => row.textContent);
    const [sku, outcome] = ["#sku", "#outcome"].map((id) => document.querySelector(id).value);
    return sku === "lamp" && outcome === "completed" && rows.length > 0 && rows.every((row) => /[0-9] lamp.*completed$/.test(row));
  };
  await Promise.all(tabs.map((page) => page.waitForFunction(isFiltered)));

  await a.selectOption("#article", "desk");
  await a.click("#reserve");
  await a.waitForFunction(() => /^reserved, \d+ left$/.test(document.querySelector("#answer").textContent));

  // The state is in the field and not in the page: a tab that comes later has it, too.
  const c = await open();
  await Promise.all([shows(c, "#likes", "Likes: 5"), c.waitForFunction(isFiltered)]);
  assert.deepEqual(errors, []);
});
