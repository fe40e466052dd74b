// The map: its past, its lines, its places, and patterns of channels.

import assert from "node:assert/strict";
import { PATIENCE, needed, openPage } from "./house.mjs";
import { SHOWN, flows, goTo, live, pause, shop, test } from "./stage.mjs";
import { written } from "../../../../../aether-gateway/page/json.js";
import * as channels from "../../../../../aether-gateway/page/channels.js";
import * as layout from "../../../../../aether-gateway/page/layout.js";

test("the map plays back the past", async (house) => {
  const { gateway, alpha } = await shop(house);
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  await flows(page);
  await goTo(page, "map");
  await SHOWN.map(page);
  const of = (channel) => page.locator(".node.channel", { hasText: channel }).locator(".sub");
  // A bucket of the past that is full of orders, and then a present without.
  const has = async () => {
    const { channels } = await (await fetch(`${gateway.url}/api/history?channels=true`)).json();
    return channels.some(({ channel, waves }) => channel === "orders.created" && waves.some((rate) => rate >= 1));
  };
  while (!(await has())) await page.waitForTimeout(200);
  await alpha.kill();
  await of("orders.created").filter({ hasText: /^(0|<0.01)\/s$/ }).waitFor();
  await page.getByRole("button", { name: "Play back the last hour" }).click();
  await page.locator("#moment").waitFor();
  const time = page.getByRole("slider", { name: "Time" });
  const rates = new Set();
  for (let at = 0; at <= Number(await time.getAttribute("max")); at += 1) {
    await time.fill(String(at));
    await page.getByRole("button", { name: "Play", exact: true }).waitFor();
    rates.add(await of("orders.created").textContent());
  }
  assert.ok([...rates].some((shown) => parseFloat(shown) >= 1), [...rates].join());
  await page.getByRole("button", { name: "Back to now" }).click();
  await page.locator("#moment").waitFor({ state: "detached" });
  // An answer that comes after the page was left plays nothing back.
  let answer;
  const held = new Promise((done) => (answer = done));
  await page.route("**/api/history?*services=true*", async (route) => {
    await held;
    await route.continue();
  });
  await page.getByRole("button", { name: "Play back the last hour" }).click();
  await goTo(page, "overview");
  const answered = page.waitForResponse(/services=true/);
  answer();
  await (await answered).finished();
  await goTo(page, "map");
  await page.getByRole("button", { name: "Play back the last hour" }).waitFor();
  await of("orders.created").filter({ hasText: /^(0|<0.01)\/s$/ }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("an edge says what it is and leads to its waves, and a guess by timing is dashed", async (house) => {
  // There a vibrator hears guess.first and emits guess.second, which names no cause.
  const gateway = await house.gateway(needed("AETHER_LETTERS_MEDIUM"), undefined, "--trace-url", "https://traces.example/of/{trace}?x=1");
  const { page, errors, close } = await openPage(`${gateway.url}/#map`);
  await live(page);
  const guess = page.locator(".edge.causes");
  await guess.first().waitFor({ state: "attached", timeout: 3 * PATIENCE });
  const dashes = (edges) => edges.locator(".stroke").evaluateAll((all) => [...new Set(all.map((line) => getComputedStyle(line).strokeDasharray))]);
  assert.match(String(await dashes(guess)), /^\d/);
  assert.deepEqual(await dashes(page.locator(".edge:not(.causes)")), ["none"]);
  await guess.locator(".touch").first().focus();
  const about = page.locator("#about");
  await about.filter({ hasText: /guess\.first causes guess\.second.* after .*: a guess by timing, \d+ % sure/ }).waitFor();
  await page.getByRole("cell", { name: /^by timing, \d+ % sure/ }).first().waitFor();
  // Not by its place: the middle of a curve may be on another one, and a new channel moves it.
  const emits = page.getByRole("link", { name: /^follower emits guess\.second/ });
  await emits.dispatchEvent("pointerenter");
  await about.filter({ hasText: "follower emits guess.second" }).waitFor();
  await emits.dispatchEvent("click");
  await page.locator('nav a[href="#waves"][aria-current="page"]').waitFor();
  await page.locator("table.waves tbody tr").first().waitFor();
  assert.equal(await page.getByLabel("Source").inputValue(), "follower");
  // These have a trace, which is a link where the settings say where it leads.
  await pause(page);
  await page.locator("table.waves tbody tr").first().getByRole("button").click();
  const link = page.getByLabel("One wave").getByRole("link", { name: "Open the trace" });
  assert.equal(await link.getAttribute("href"), "https://traces.example/of/0af7651916cd43dd8448eb211c80319c?x=1");
  assert.match(await link.getAttribute("rel"), /noopener/);
  assert.deepEqual(errors, []);
  await close();
});

test("boxes of the map stay where they are while rates change and guesses come and go", () => {
  const nodes = ["s alpha", "s beta", "c a.one", "c a.two", "c b.one"].map((id) => ({ id, name: id.slice(2) }));
  const edge = (from, to) => ({ id: `${from} ${to}`, from, to });
  const edges = [edge("s alpha", "c a.one"), edge("s alpha", "c a.two"), edge("c a.one", "s beta"), edge("c a.two", "s beta"), edge("s beta", "c b.one")];
  const places = (placed) => [...placed.boxes].map(([id, { x, y }]) => `${id} ${x} ${y}`).sort();
  const first = places(layout.placed({ nodes, edges }, false));
  const guess = { ...edge("c a.one", "c b.one"), isLoose: true };
  const later = layout.placed({ nodes: [...nodes].reverse(), edges: [guess, ...[...edges].reverse()] }, false);
  assert.deepEqual(places(later), first);
  assert.ok(later.lines.has(guess.id));
  // Lines that end at one box do not end at one point.
  const tips = edges.filter(({ to }) => to === "s beta").map(({ id }) => later.lines.get(id).tip.y);
  assert.equal(new Set(tips).size, 2);
});

test("a payload is indented for people, unless it is nested so deeply that this would be most of it", () => {
  assert.equal(written({ a: ["[[", '"{'] }, 2), '{\n  "a": [\n    "[[",\n    "\\"{"\n  ]\n}');
  assert.equal(written(undefined, 2), undefined);
  const deep = "[".repeat(4000) + "]".repeat(4000);
  assert.equal(written(JSON.parse(deep), 2), deep);
  const many = JSON.stringify("[".repeat(200));
  assert.equal(written(JSON.parse(`[${many}]`), 2), `[\n  ${many}\n]`);
});

test("patterns match as on the bus", () => {
  for (const [pattern, channel, is] of [
    ["", "a.b", true], [">", "a", true], ["*", "a.b.c", true], ["a.*", "a.b", true], ["a.*", "a.b.c", false], ["a.>", "a.b.c", true],
    ["a.>", "a", false], ["a.b", "a.b", true], ["*.b", "a.b", true], ["a.b.c", "a.b", false],
  ]) assert.equal(channels.matches(pattern, channel), is, `${pattern} ${channel}`);
  for (const [one, other, is] of [
    ["orders.*", "*.created", true], ["orders.>", "orders.a.b", true], ["orders.created", ">", true], ["orders.*", "stock.*", false], ["a.b", "a.b.c", false],
  ]) assert.equal(channels.overlap(one, other) && channels.overlap(other, one), is, `${one} ${other}`);
});
