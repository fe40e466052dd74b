// What the tests of the demos have in common: a program that serves them, tabs, and what a page shows.

import "./environment.mjs";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { PATIENCE, freePort, openPage } from "../page/house.mjs";
import { AWAY } from "../page/stage.mjs";

/** Errors of a page without its gateway. */
const GONE = [...AWAY, /Failed to load resource/, /FetchEvent .* resulted in a network error/];
const folder = mkdtempSync(join(tmpdir(), "aether-demos-"));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;

/** A program with the demos. `port` and `file` are those of one that was killed. */
export async function demos(house, { port, file = join(folder, `${(files += 1)}.field`) } = {}) {
  const taken = port ?? (await freePort());
  const program = house.aether("demo", "--listen", `127.0.0.1:${taken}`, "--file", file);
  const [, url] = await program.says(/^demos: (http:\/\/\S+\/demos\/)/);
  return Object.assign(program, { url, port: taken, file });
}

/** A browser of its own with a demo that is connected. `more()` opens another tab of this browser. */
export async function open(program, name, options = {}) {
  const { page, errors: own, close } = await openPage(`${program.url}${name}.html`, { expected: GONE, ...options });
  await online(page);
  const more = async (other = name) => {
    const tab = await page.context().newPage();
    tab.on("pageerror", (error) => own.push(String(error)));
    tab.on("console", (message) => ["error", "warning"].includes(message.type()) && !GONE.some((pattern) => pattern.test(message.text())) && own.push(message.text()));
    await tab.goto(`${program.url}${other}.html`);
    await online(tab);
    return tab;
  };
  return { page, errors: own, close, more };
}

/** Connected, and nothing waits. */
export const online = (page) => page.locator("#state.good", { hasText: "Connected" }).waitFor();
export const offline = (page) => page.locator("#banner.bad", { hasText: "Offline" }).waitFor();

/** Waits until the pages are kept in the browser, which is tried once for each load of a page. */
export const kept = (page) => until(() => page.evaluate(async () => {
  const { active } = (await navigator.serviceWorker.getRegistration()) ?? {};
  return active?.state;
}), (state) => state === "activated");

/** The writes of a page are in the storage of the browser. Before that, it asks whether it may be left. */
export const stored = (page) => page.locator("html:not([data-unkept])").waitFor();

export async function reload(page) {
  await stored(page);
  await page.reload();
}

/** Connects at once, which would happen within seconds. */
export async function reconnect(...pages) {
  for (const page of pages) {
    const retry = page.getByRole("button", { name: "Try now" });
    // Another tab of this browser, or a timer, may have been faster.
    await retry.click({ timeout: 1_000 }).catch(() => {});
    await online(page);
  }
}

/** Waits until the value is as it should be; an error says what it is. */
export async function until(read, isRight) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await read();
    if (isRight(value)) return value;
    if (Date.now() > end) throw new Error(`it stays ${JSON.stringify(value)}`);
    await new Promise((next) => setTimeout(next, 20));
  }
}

/** Waits until all pages show the same, which is right. An error says what they tell their users. */
export async function agree(pages, read, isRight = () => true) {
  try {
    const all = await until(() => Promise.all(pages.map(read)), (seen) => seen.every((one) => JSON.stringify(one) === JSON.stringify(seen[0]) && isRight(one)));
    return all[0];
  } catch (error) {
    const told = await Promise.all(pages.map((page) => page.evaluate(() => ["state", "banner", "notices", "said"].map((id) => document.getElementById(id)?.textContent.trim()))));
    throw new Error(`${error.message}; ${JSON.stringify(told)}`, { cause: error });
  }
}

/** The columns of a board with the titles of their cards. */
export const board = (page) => page.evaluate(() => [...document.querySelectorAll(".column")].map((column) =>
  [column.querySelector("h2").textContent, ...[...column.querySelectorAll(".item .editable")].map((title) => title.querySelector("input")?.value ?? title.textContent)]));
export const column = (page, title) => page.getByRole("region", { name: title, exact: true });
export const card = (page, title) => page.getByRole("listitem").filter({ has: page.getByRole("button", { name: `Move the card ${title}`, exact: true }) });

export async function addCard(page, title, to = "To do") {
  await page.getByRole("textbox", { name: `New card in ${to}`, exact: true }).fill(title);
  await page.keyboard.press("Enter");
}

/** Types another title in the place of a card's or a column's. */
export async function retitle(page, what, from, to) {
  await page.getByRole("button", { name: `Title of the ${what}: ${from}.` }).click();
  await page.getByRole("textbox", { name: `Title of the ${what}` }).fill(to);
  await page.keyboard.press("Enter");
}

/** The lines of a text. */
export const lines = (page) => page.evaluate(() => [...document.querySelectorAll("#lines textarea")].map((area) => area.value));
export const line = (page, number) => page.getByRole("textbox", { name: `Line ${number}`, exact: true });

/** The devices of a map with where they are, and its links. */
export const map = (page) => page.evaluate(() => ({
  devices: [...document.querySelectorAll(".device")].map((device) => [device.dataset.id, device.querySelector("text").textContent, device.getAttribute("transform")]).sort(),
  links: [...document.querySelectorAll("#links .what")].map((link) => link.textContent).sort(),
}));
export const names = async (page) => (await map(page)).devices.map(([, name]) => name).sort();
export const device = (page, name) => page.locator(".device", { hasText: name });
