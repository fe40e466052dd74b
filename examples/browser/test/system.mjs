// The order system, a browser and served folders for the tests. The command `aether` is in the PATH or AETHER_PROGRAM, Chromium in
// AETHER_CHROMIUM, and playwright-core in this folder or in AETHER_NODE_MODULES. Nothing here waits for a time.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { preview } from "vite";

const AETHER = process.env.AETHER_PROGRAM ?? "aether";
const CHROMIUM = process.env.AETHER_CHROMIUM ?? "/usr/bin/chromium";
const modules = process.env.AETHER_NODE_MODULES;
const { chromium } = createRequire(modules ? join(modules, "x.js") : import.meta.url)("playwright-core");

/** A bound for steps that never fail, on a slow machine as well. */
export const MS = 120_000;
export const root = fileURLToPath(new URL("..", import.meta.url));

const ends = [];

/** Stops everything that was started here, in reverse order. */
export async function stopAll() {
  for (const end of ends.splice(0).reverse()) await end();
}

/** A folder that is removed at the end. */
export async function temporary() {
  const folder = await mkdtemp(join(tmpdir(), "aether-browser-"));
  ends.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * Starts the order system with a field `board`, and returns the address of its gateway. Cards are never declined and stock never
 * ends, so each order is completed and each question is answered with "reserved".
 */
export async function startSystem() {
  const orders = ["--rate", "5", "--decline-rate", "0", "--units", "1000000"];
  const args = ["up", "--listen", "127.0.0.1:0", "--field", "board", "--field-origin", "*", ...orders];
  // In a folder without a configuration.
  const cwd = await temporary();
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("AETHER_")));
  const child = spawn(AETHER, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  process.once("exit", () => child.kill("SIGKILL"));
  const ended = new Promise((resolve) => child.once("close", resolve).once("error", resolve));
  ends.push(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  let errors = "";
  child.stderr.on("data", (text) => (errors = (errors + text).slice(-10_000)));
  return new Promise((resolve, reject) => {
    ended.then((how) => reject(new Error(`${AETHER} ended (${how}): ${errors}`)));
    createInterface(child.stdout).on("line", (line) => {
      const found = /gateway: (http:\/\/[^/]+)\//.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

/** Serves a folder, and returns its address. */
export async function serve(outDir) {
  const server = await preview({ root, logLevel: "error", build: { outDir }, preview: { host: "127.0.0.1", port: 0, strictPort: false } });
  ends.push(() => server.close());
  return `http://127.0.0.1:${server.httpServer.address().port}/`;
}

/** A browser with one user, whose tabs share their storage. `errors` are those of all tabs. */
export async function startBrowser() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: CHROMIUM, args, timeout: MS });
  ends.push(() => browser.close());
  const context = await browser.newContext();
  context.setDefaultTimeout(MS);
  const errors = [];
  const open = async (url) => {
    const page = await context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(url);
    return page;
  };
  return { context, errors, open };
}

/** Resolves when the element has exactly this text. */
export function shows(page, selector, text) {
  return page.waitForFunction(([selector, text]) => document.querySelector(selector)?.textContent === text, [selector, text]);
}
