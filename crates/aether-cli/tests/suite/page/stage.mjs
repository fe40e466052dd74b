// What the tests of the pages have in common: the order system, ways to a page, and what a page shows when it is there.

import { after, describe, it } from "node:test";
import { House, PATIENCE, closeBrowser, needed, packages } from "./house.mjs";
import { PICTURES } from "./pictures.mjs";

export const AXE = packages.resolve("axe-core/axe.min.js");
export const PAGES = ["overview", "spectrum", "waves", "map", "incidents", "services", "ledger", "letters", "queues", "durable"];
/** A folder with a durable log. */
export const LOGS = needed("AETHER_LOGS");
export const AWAY = [/WebSocket connection to/, /net::ERR_(CONNECTION|SOCKET|EMPTY_RESPONSE)/];

/** The number of tests at a time. Most of their time they wait: for the next second, a bucket of the past, a finding. */
const AT_ONCE = PICTURES ? 1 : 5;
const tests = [];

/** Defines a test. Its body gets a house, and what it starts there ends with it. */
export const test = (name, body) => tests.push([name, body]);

/** Runs what was defined, in one browser. The longest test takes pictures of a minute of traffic. */
export function runAll() {
  const all = async (body) => {
    const house = new House();
    try {
      await body(house);
    } finally {
      await house.close();
    }
  };
  describe("pages", { concurrency: AT_ONCE }, () => {
    for (const [name, body] of tests) it(name, { timeout: 4 * PATIENCE }, () => all(body));
  });
  after(async () => {
    await Promise.all([closeBrowser(), common.close()]);
  });
}

/** The order systems of those tests that only look. */
const common = new House();
const shops = new Map();
export function commonShop(...args) {
  const key = args.join(" ");
  if (!shops.has(key)) shops.set(key, shop(common, ...args));
  return shops.get(key);
}

/** A bus with the order system and a gateway. Streams are found to be regular after some of their beats, so these are quick. */
export async function shop(house, ...args) {
  const server = await house.server();
  const gateway = await house.gateway(server.url, undefined, "--durable", LOGS, ...args);
  const beta = house.aether("beta", "--medium", server.url, "--heartbeat", "0.2");
  const alpha = house.aether("alpha", "--medium", server.url, "--rate", PICTURES ? "30" : "4");
  return { server, gateway, alpha, beta };
}

export const live = (page) => page.locator("#state.good").waitFor();

/** Waits for so many more views of the overview, which come every second. */
export async function seconds(page, many) {
  const now = () => page.evaluate(async () => (await (await fetch("/api/overview")).json()).second);
  const begin = await now();
  while ((await now()) < begin + many) await page.waitForTimeout(100);
}

/** What was done is drawn with the next frame. */
export const drawn = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

/** Narrows every page to a pattern, on the page Waves. */
export async function narrow(page, pattern) {
  await page.getByLabel("Channel", { exact: true }).first().fill(pattern);
  await page.keyboard.press("Enter");
  await page.locator(".chip", { hasText: pattern }).waitFor();
}

/** Keeps the list of waves as it is, on the page Waves. Rows that move away cannot be clicked on a busy machine. */
export async function pause(page) {
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press("p");
  await page.getByText("paused").waitFor();
}

/** What is seriously wrong for people who use a reader or keys, by the rules of axe. */
export async function serious(page, name) {
  const { violations } = await page.evaluate(async () => {
    // Colours that are on their way to others have no contrast that counts.
    await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
    return globalThis.axe.run();
  });
  const all = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return all.map(({ id, nodes }) => `${name}: ${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
}

export async function flows(page) {
  await page.locator("#h-channels").waitFor();
  await page.getByRole("button", { name: "orders.created", exact: true }).waitFor();
}

export async function goTo(page, name) {
  await page.evaluate((hash) => (location.hash = hash), name);
  await page.locator(`nav a[href="#${name}"][aria-current="page"]`).waitFor();
}

/** Waits until a page shows what it is about. */
export const SHOWN = {
  overview: (page) => flows(page),
  spectrum: (page) => page.locator("#spectrum").waitFor(),
  waves: (page) => page.locator("table.waves tbody tr").nth(5).waitFor(),
  map: (page) => page.locator(".node.service").nth(1).waitFor(),
  incidents: (page) => page.locator("#h-findings ~ .scroll tbody tr").first().waitFor(),
  // A process and a vibrator. Alpha itself only asks: it has no line among the vibrators, and its orders are a heartbeat only
  // where they come regularly, which they do not on a busy machine.
  services: async (page) => {
    await page.getByRole("button", { name: "aether-service-alpha" }).waitFor();
    await page.getByRole("cell", { name: /^payments/ }).first().waitFor();
  },
  ledger: (page) => page.getByText("adds up").first().waitFor(),
  letters: (page) => page.getByText(/No dead letters/).waitFor(),
  queues: (page) => page.getByText(/No queues/).waitFor(),
  durable: (page) => page.getByRole("button", { name: "billing" }).waitFor(),
};

/** Waits until a page shows what it is about; an error says what it shows instead. */
export async function shows(page, name) {
  try {
    await SHOWN[name](page);
  } catch (error) {
    const shown = await page.evaluate(() => `${location.hash} ${document.body.innerText.slice(0, 2000)}`);
    error.message = `${name}: ${error.message}\nit shows ${shown}`;
    throw error;
  }
}
