// Two tabs of the built example beside the real order system.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { build } from "vite";
import { root, serve, shows, startBrowser, startSystem, stopAll, temporary } from "./system.mjs";

after(stopAll);

test("two tabs share the counter and the filter, see orders, and get answers", async () => {
  process.env.VITE_GATEWAY = (await startSystem()).replace("http", "ws");
  const outDir = join(await temporary(), "dist");
  await build({ root, logLevel: "error", build: { outDir } });
  const url = await serve(outDir);
  const browser = await startBrowser();
  const open = async () => {
    const page = await browser.open(url);
    await shows(page, "#status", "online");
    return page;
  };
  const tabs = [await open(), await open()];
  const [a, b] = tabs;

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
  assert.deepEqual(browser.errors, []);
});
