// The pages of the gateway in a real browser.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rename, writeFile } from "node:fs/promises";
import { after, afterEach, beforeEach, test as run } from "node:test";
import { House, PATIENCE, closeBrowser, freePort, needed, openPage, packages } from "./house.mjs";
import { PICTURES, picture, pictures, recorded } from "./pictures.mjs";
import * as channels from "../../../aether-gateway/page/channels.js";
import * as layout from "../../../aether-gateway/page/layout.js";

const AXE = packages.resolve("axe-core/axe.min.js");
const PAGES = ["overview", "spectrum", "waves", "map", "incidents", "services", "ledger", "letters", "durable"];
/** A folder with a durable log. */
const LOGS = needed("AETHER_LOGS");
const AWAY = [/WebSocket connection to/, /ERR_CONNECTION/];

/** The longest takes pictures of a minute of traffic. */
const test = (name, body) => run(name, { timeout: 4 * PATIENCE }, body);

let house;
beforeEach(() => (house = new House()));
afterEach(() => house.close());
after(closeBrowser);

/** A bus with the order system and a gateway. */
async function shop(...args) {
  const server = await house.server();
  const gateway = await house.gateway(server.url, undefined, "--durable", LOGS, ...args);
  const beta = house.aether("beta", "--medium", server.url);
  const alpha = house.aether("alpha", "--medium", server.url, "--rate", "30");
  return { server, gateway, alpha, beta };
}

const live = (page) => page.locator("#state.good").waitFor();

/** Waits for so many more views of the overview, which come every second. */
async function seconds(page, many) {
  const now = () => page.evaluate(async () => (await (await fetch("/api/overview")).json()).second);
  const begin = await now();
  while ((await now()) < begin + many) await page.waitForTimeout(100);
}

/** What was done is drawn with the next frame. */
const drawn = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

/** Narrows every page to a pattern, on the page Waves. */
async function narrow(page, pattern) {
  await page.getByLabel("Channel", { exact: true }).first().fill(pattern);
  await page.keyboard.press("Enter");
  await page.locator(".chip", { hasText: pattern }).waitFor();
}

/** What is seriously wrong for people who use a reader or keys, by the rules of axe. */
async function serious(page, name) {
  const { violations } = await page.evaluate(async () => {
    // Colours that are on their way to others have no contrast that counts.
    await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
    return globalThis.axe.run();
  });
  const all = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return all.map(({ id, nodes }) => `${name}: ${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
}

async function flows(page) {
  await page.locator("#h-channels").waitFor();
  await page.getByRole("button", { name: "orders.created", exact: true }).waitFor();
}

async function goTo(page, name) {
  await page.evaluate((hash) => (location.hash = hash), name);
  await page.locator(`nav a[href="#${name}"][aria-current="page"]`).waitFor();
}

/** Waits until a page shows what it is about. */
const SHOWN = {
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
  durable: (page) => page.getByRole("button", { name: "billing" }).waitFor(),
};

/** Waits until a page shows what it is about; an error says what it shows instead. */
async function shows(page, name) {
  try {
    await SHOWN[name](page);
  } catch (error) {
    const shown = await page.evaluate(() => `${location.hash} ${document.body.innerText.slice(0, 2000)}`);
    error.message = `${name}: ${error.message}\nit shows ${shown}`;
    throw error;
  }
}

test("every page shows the order system, with keys alone, and without errors", async () => {
  const { gateway } = await shop();
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  for (const [at, name] of PAGES.entries()) {
    await page.keyboard.press(String(at + 1));
    await shows(page, name);
    assert.equal(await page.locator("h1").count(), 1, name);
    if (name === "services") {
      await page.getByRole("button", { name: "aether-service-beta" }).click();
      await page.locator("tr.detail td", { hasText: /^beta/ }).first().waitFor();
      await page.locator("#h-vibrators ~ .scroll tbody").getByRole("button", { name: "beta" }).click();
      await page.locator("tr.detail").getByRole("row", { name: /^answers inventory\.reserve inventory/ }).waitFor();
      await page.getByRole("heading", { name: "Fringes" }).waitFor();
    }
  }
  assert.deepEqual(errors, []);
  await close();
});

test("a wave that is emitted from the page arrives, and a question is answered or refused", async () => {
  const { server, gateway } = await shop();
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`);
  await live(page);
  await narrow(page, "page.>");
  await page.getByText("No wave matches").waitFor();
  const listening = house.aether("listen", "page.>", "--medium", server.url, "--count", "1");
  // Out of the field, and not out of the filter.
  await page.keyboard.press("Escape");
  await page.keyboard.press("e");
  const form = page.locator("#emit");
  await form.getByLabel("Channel").fill("page.hello");
  await form.getByLabel("Payload").fill('{"from": "the <page>"}');
  await form.getByLabel("Key").fill("k7");
  // Whether the listener is there already does not matter for the page; it hears one of the waves.
  for (let wave = 1; listening.child.exitCode === null; wave += 1) {
    await form.getByRole("button", { name: "Emit", exact: true }).click();
    await page.locator("#emit-result.fine").waitFor();
    await page.locator("table.waves tbody tr").nth(wave - 1).waitFor();
  }
  assert.match(listening.said, /page\.hello.*the <page>/s);
  await page.locator("table.waves tbody tr").first().getByRole("button").click();
  const inspector = page.getByLabel("One wave");
  await inspector.getByText('"from": "the <page>"').waitFor();
  assert.match(await inspector.innerText(), /k7/);

  // The stock answers.
  await form.getByLabel("Channel").fill("inventory.reserve");
  await form.getByLabel("Payload").fill('{"order":"of-the-page","sku":"lamp","quantity":1}');
  await form.getByRole("button", { name: /Ask/ }).click();
  await page.locator("#emit-result.fine").filter({ hasText: "Answered" }).waitFor();
  await form.locator("pre", { hasText: '"outcome"' }).waitFor();
  await form.getByLabel("Channel").fill("nobody.knows");
  await form.getByRole("button", { name: /Ask/ }).click();
  await page.locator("#emit-result.error").filter({ hasText: "nobody listens on nobody.knows" }).waitFor();
  await form.getByLabel("Payload").fill("{not json");
  await form.getByRole("button", { name: "Emit", exact: true }).click();
  await page.locator("#emit-result.error").filter({ hasText: "The payload is not JSON" }).waitFor();
  await page.keyboard.press("Escape");
  assert.deepEqual(errors, []);
  await close();
});

test("a wave is copied as a command that emits it as it was, whatever its names are", async () => {
  const server = await house.server();
  const gateway = await house.gateway(server.url);
  const permissions = ["clipboard-read", "clipboard-write"];
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`, { permissions });
  await live(page);
  const inspector = page.getByLabel("One wave");
  const hostile = "--medium=nats://evil";
  await page.evaluate(({ channel }) => new Promise((resolve, reject) => {
    const socket = new WebSocket(new URL("/ws", location.href.replace(/^http/, "ws")));
    const wave = { channel, kind: "broadcast", amplitude: 0.9, half_life_ms: 4096, phase: Math.PI, key: "it's --key", cause: "shop@1f/7",
      metadata: { tenant: "a b" }, json: { sku: "a 'lamp'" } };
    socket.onmessage = ({ data }) => {
      const { op, text } = JSON.parse(data);
      if (op === "hello") socket.send(JSON.stringify({ op: "emit", id: 1, wave }));
      if (op === "emitted") resolve();
      if (op === "error") reject(new Error(text));
    };
  }), { channel: hostile });
  await page.getByRole("button", { name: hostile, exact: true }).first().click();
  await inspector.getByText("retracts").waitFor();
  await inspector.getByRole("button", { name: "Copy as aether emit" }).click();
  await inspector.getByText("the command copied").waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  const words = [...copied.matchAll(/'((?:[^']|'\\'')*)'|(\S+)/g)].map(([, quoted, plain]) => quoted?.replaceAll("'\\''", "'") ?? plain);
  assert.equal(words[words.indexOf("--") + 1], hostile, copied);
  // The same wave comes again, with all that it had.
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByText("No wave yet").waitFor();
  await house.run(...words.slice(1, -3), "--medium", server.url, ...words.slice(-3));
  await page.locator("table.waves tbody tr").first().getByRole("button").click();
  await inspector.getByText("a 'lamp'").waitFor();
  for (const part of ["broadcast", "retracts", "it's --key", "shop@1f/7", "a b", "4.10 s", "0.9"]) await inspector.getByText(part, { exact: false }).first().waitFor();
  // And once more by the form, which says what it carries beside its fields.
  await inspector.getByRole("button", { name: "Emit again" }).click();
  await page.locator("#rest").filter({ hasText: "caused by shop@1f/7; phase 3.14; half-life 4.10 s; tenant: a b" }).waitFor();
  await page.locator("#emit").getByRole("button", { name: "Emit", exact: true }).click();
  await page.locator("#emit-result.fine").waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("the chain of a wave goes up and down, also to waves that the page was not sent", async () => {
  const { gateway } = await shop();
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`);
  await live(page);
  // Nothing but one channel in the middle of a request is received.
  await narrow(page, "payments.charge");
  await page.locator("table.waves tbody tr", { hasText: "command" }).nth(2).getByRole("button").click();
  const inspector = page.getByLabel("One wave");
  await inspector.locator("ol.chain li").first().filter({ hasText: "orders.created" }).waitFor();
  await inspector.locator("ol.chain li").filter({ hasText: "inventory.reserve" }).first().waitFor();
  await inspector.locator("ul.chain li").filter({ hasText: /payments\.charged|payments\.declined/ }).first().waitFor();
  await inspector.locator("ol.chain").getByRole("button", { name: "orders.created" }).click();
  await inspector.getByText("This page has not received the wave itself").waitFor();
  await inspector.locator("ul.chain ul.chain li").filter({ hasText: "payments.charge" }).first().waitFor();
  await inspector.getByText("nothing: it began a request").waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("waves are paused, and filtered by kind, source and amplitude", async () => {
  const { gateway } = await shop();
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`);
  await live(page);
  const rows = page.locator("table.waves tbody tr");
  const cells = (column) => rows.locator(`td:nth-child(${column})`).allInnerTexts();
  /** Waits until there are rows again, and all of them are as they should be. */
  const all = (column, pattern) => page.waitForFunction(([at, text]) => {
    const shown = [...document.querySelectorAll(`table.waves tbody td:nth-child(${at})`)].map((cell) => cell.innerText);
    return shown.length > 2 && shown.every((cell) => new RegExp(text).test(cell));
  }, [column, pattern]);
  await rows.nth(5).waitFor();
  const command = page.getByRole("group", { name: "Kinds" }).getByRole("button", { name: "command" });
  await command.click();
  await all(3, "^command$");
  await command.click();
  await page.getByLabel("Source").fill("beta");
  await page.keyboard.press("Enter");
  await all(4, "^beta$");
  await page.getByLabel("Source").fill("");
  await page.keyboard.press("Enter");
  await all(4, "alpha|beta|payments");
  await page.getByLabel("Amplitude from").fill("0.75");
  await page.locator("output", { hasText: "0.75" }).waitFor();
  await all(5, "^(0\\.(7[5-9]|[89])|1)");
  await page.locator("h1").click();
  await page.keyboard.press("p");
  await page.getByText("paused").waitFor();
  const shown = await cells(1);
  // Waves go on to arrive: the next view of the overview is a second later.
  await seconds(page, 2);
  assert.deepEqual(await cells(1), shown);
  await page.keyboard.press("p");
  await page.getByText("paused").waitFor({ state: "detached" });
  await page.waitForFunction((time) => document.querySelector("table.waves td.time")?.textContent !== time, shown[0]);
  assert.deepEqual(errors, []);
  await close();
});

test("a click on a channel narrows every page, and Escape and the chip show all again", async () => {
  const { gateway } = await shop("--no-physics");
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  await flows(page);
  const chip = page.locator(".chip");
  await page.getByRole("button", { name: "payments.charge", exact: true }).click();
  await chip.filter({ hasText: "payments.charge" }).waitFor();
  // On the overview one line is left, and what is not known by channel says so.
  await page.getByRole("button", { name: "orders.created", exact: true }).waitFor({ state: "detached" });
  await page.getByRole("heading", { name: "What is lost, and why all channels" }).waitFor();
  await page.getByText("of payments.charge", { exact: false }).first().waitFor();
  await goTo(page, "spectrum");
  await page.getByText(/^1 channel, /).waitFor();
  await goTo(page, "waves");
  assert.equal(await page.getByLabel("Channel", { exact: true }).first().inputValue(), "payments.charge");
  await page.locator("table.waves tbody tr").nth(2).waitFor();
  assert.deepEqual([...new Set(await page.locator("table.waves tbody td:nth-child(2)").allInnerTexts())], ["payments.charge"]);
  await goTo(page, "map");
  await page.locator(".node.service", { hasText: "payments" }).waitFor();
  assert.equal(await page.locator(".node.channel").count(), 1);
  await goTo(page, "services");
  await page.getByRole("heading", { name: "Processes that hear payments.charge" }).waitFor();
  const vibrators = page.locator("#h-vibrators ~ .scroll tbody");
  await vibrators.getByRole("button", { name: "payments" }).waitFor();
  assert.equal(await vibrators.getByRole("button", { name: "beta" }).count(), 0);
  await goTo(page, "ledger");
  await page.getByRole("heading", { name: "Ledger all channels" }).waitFor();
  await goTo(page, "durable");
  await page.getByRole("button", { name: "audit" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "billing" }).count(), 0, "it consumes orders only");
  await page.keyboard.press("Escape");
  await chip.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "billing" }).waitFor();

  // A pattern of the page Waves is the same filter.
  await goTo(page, "waves");
  await page.keyboard.press("/");
  await page.keyboard.type("inventory.*");
  await page.keyboard.press("Enter");
  await chip.filter({ hasText: "inventory.*" }).waitFor();
  await page.keyboard.press("Escape");
  await goTo(page, "overview");
  await page.getByRole("button", { name: "inventory.reserve", exact: true }).waitFor();
  assert.equal(await page.getByRole("button", { name: "orders.created", exact: true }).count(), 0);
  await chip.click();
  await flows(page);
  assert.deepEqual(errors, []);
  await close();
});

for (const reducedMotion of ["no-preference", "reduce"]) {
  test(`the spectrum is used by keys and by a click: motion ${reducedMotion}`, async () => {
    const { gateway } = await shop("--no-physics");
    // The test itself reads what is painted.
    const { page, errors, close } = await openPage(`${gateway.url}/#spectrum`, { reducedMotion, expected: [/willReadFrequently/] });
    await live(page);
    const spectrum = page.locator("#spectrum");
    await page.getByText(/^1\d channels, /).waitFor();
    // It is not empty.
    await page.waitForFunction(() => {
      const canvas = document.querySelector(".waterfall");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return new Set(new Uint32Array(data.buffer)).size > 3;
    });
    const moving = await spectrum.locator(".waterfall").evaluate((canvas) => canvas.getAnimations().length);
    if (reducedMotion === "reduce") assert.equal(moving, 0);
    else await page.waitForFunction(() => document.querySelector(".waterfall").getAnimations().length === 1);
    await spectrum.focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowUp");
    await drawn(page);
    const chosen = await page.locator("#hint b").innerText();
    await page.keyboard.press("Enter");
    await page.locator(".chip", { hasText: chosen }).waitFor();
    await page.getByText(/^1 channel, /).waitFor();
    await page.keyboard.press("Escape");
    await page.getByText(/^1\d channels, /).waitFor();
    const { width, height } = await spectrum.boundingBox();
    await spectrum.hover({ position: { x: width / 2, y: height - 4 } });
    await drawn(page);
    const pointed = await page.locator("#hint b").innerText();
    await spectrum.click({ position: { x: width / 2, y: height - 4 } });
    await page.locator(".chip", { hasText: pointed }).waitFor();
    assert.deepEqual(errors, []);
    await close();
  });
}

test("the keys are listed, and a question before a change is a dialog that Escape leaves", async () => {
  const { gateway } = await shop();
  const { page, errors, close } = await openPage(gateway.url, { bypassCSP: true });
  await live(page);
  await page.addScriptTag({ path: AXE });
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("Waves: pause and go on").waitFor();
  assert.deepEqual(await serious(page, "keys"), []);
  await page.keyboard.press("2");
  assert.equal(await page.locator("nav a[aria-current]").innerText(), "Overview", "keys wait for the dialog");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Keys" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.deepEqual(errors, []);
  await close();
});

test("names from the network are shown as text and never run", async () => {
  // Without other traffic, whose channels would push this one out of the list of the busiest.
  const server = await house.server();
  const gateway = await house.gateway(server.url);
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  const hostile = `<img/src=x/onerror='top&"`;
  await house.run("emit", `a.${hostile}`, '"<script>document.title=1</script>"', "--name", "<b>evil</b>", "--medium", server.url);
  await page.getByRole("button", { name: `a.${hostile}`, exact: true }).waitFor();
  for (const name of PAGES) {
    await goTo(page, name);
    if (name === "map") await page.locator(".node.service .name", { hasText: "<b>evil</b>" }).waitFor();
    assert.equal(await page.locator("main img, main script, main b:text-is('evil')").count(), 0, name);
  }

  await goTo(page, "waves");
  await narrow(page, "payload.>");
  await page.getByText("No wave matches").waitFor();
  const post = (channel, body) => fetch(`${gateway.url}/waves/${channel}`, { method: "POST", body });
  await post("payload.deep", "[".repeat(4000) + "]".repeat(4000));
  await post("payload.digits", '{"n": 12345678901234567890}');
  await page.getByRole("button", { name: "payload.deep" }).waitFor();
  await page.getByRole("button", { name: "payload.digits" }).first().click();
  await page.getByLabel("One wave").getByText('"n": 12345678901234567890').waitFor();
  await page.getByRole("button", { name: "payload.deep" }).first().click();
  await page.getByLabel("One wave").getByText("payload.deep").first().waitFor();
  assert.equal(await page.locator("b", { hasText: /^evil$/ }).count(), 0);
  assert.deepEqual(errors, []);
  await close();
});

test("a service that ends is one incident", async () => {
  const { gateway, beta } = await shop();
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  await flows(page);
  // The detectors have to know the streams before they can miss one.
  await goTo(page, "map");
  await page.locator("#h-edges + .scroll tbody tr").first().waitFor();
  await goTo(page, "overview");
  await beta.kill();
  const incident = page.locator(".incident.critical, .incident.warning");
  await incident.first().waitFor();
  assert.equal(await incident.count(), 1);
  await picture(page, "incident");
  assert.deepEqual(errors, []);
  await close();
});

test("the map plays back the past", async () => {
  const { gateway, alpha } = await shop();
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  await flows(page);
  await goTo(page, "map");
  await SHOWN.map(page);
  const of = (channel) => page.locator(".node.channel", { hasText: channel }).locator(".sub");
  // A bucket of the past with waves, and then a present without.
  const has = async () => (await (await fetch(`${gateway.url}/api/history`)).json()).waves.some((waves) => waves > 0);
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
  await of("orders.created").filter({ hasText: /^(0|<0.01)\/s$/ }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("an edge says what it is and leads to its waves, and a guess by timing is dashed", async () => {
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
  await page.getByRole("link", { name: /^follower emits guess\.second/ }).hover({ force: true });
  await about.filter({ hasText: "follower emits guess.second" }).waitFor();
  await page.getByRole("link", { name: /^follower emits guess\.second/ }).click({ force: true });
  await page.locator('nav a[href="#waves"][aria-current="page"]').waitFor();
  await page.locator("table.waves tbody tr").first().waitFor();
  assert.equal(await page.getByLabel("Source").inputValue(), "follower");
  // These have a trace, which is a link where the settings say where it leads.
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

test("patterns match as on the bus", () => {
  for (const [pattern, channel, is] of [
    ["", "a.b", true], [">", "a", true], ["*", "a.b.c", true], ["a.*", "a.b", true], ["a.*", "a.b.c", false], ["a.>", "a.b.c", true],
    ["a.>", "a", false], ["a.b", "a.b", true], ["*.b", "a.b", true], ["a.b.c", "a.b", false],
  ]) assert.equal(channels.matches(pattern, channel), is, `${pattern} ${channel}`);
  for (const [one, other, is] of [
    ["orders.*", "*.created", true], ["orders.>", "orders.a.b", true], ["orders.created", ">", true], ["orders.*", "stock.*", false], ["a.b", "a.b.c", false],
  ]) assert.equal(channels.overlap(one, other) && channels.overlap(other, one), is, `${one} ${other}`);
});

test("the gateway and the server are killed and come back while the page is open", async () => {
  const { server, gateway } = await shop();
  const { page, errors, close } = await openPage(gateway.url, { expected: AWAY });
  await live(page);
  await flows(page);
  await gateway.kill();
  await page.getByRole("alert").filter({ hasText: "The gateway is away" }).waitFor();
  const again = await house.gateway(server.url, gateway.port);
  await live(page);
  await flows(page);

  await server.kill();
  await page.getByRole("alert").filter({ hasText: "The bus is away" }).waitFor();
  await house.server(server.port);
  await live(page);
  assert.equal(await page.getByRole("alert").count(), 0);
  assert.deepEqual(errors, []);
  await again.kill();
  await close();
});

test("an empty bus says how to emit the first wave, also inside of one process, and the command works", async () => {
  const gateway = await house.gateway("local:");
  const { page, errors, close } = await openPage(gateway.url, { bypassCSP: true });
  await live(page);
  await page.addScriptTag({ path: AXE });
  const command = await page.locator(".empty code").innerText();
  assert.deepEqual(await serious(page, "empty"), []);
  for (const name of ["spectrum", "waves", "map"]) {
    await goTo(page, name);
    await page.locator(".empty code", { hasText: command }).waitFor();
  }
  const { status } = spawnSync("sh", ["-c", command]);
  assert.equal(status, 0, command);
  await goTo(page, "overview");
  await page.getByRole("button", { name: "hello.world" }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

/** Reads again until a row is there: services announce themselves within about a second. */
async function listed(page, name) {
  const row = page.getByRole("row", { name });
  while ((await row.count()) === 0) {
    await page.keyboard.press("r");
    await page.getByRole("button", { name: "Read again" }).waitFor();
    await page.waitForTimeout(100);
  }
  return row;
}

test("a dead letter is inspected, replayed and dropped, each after a question, and an error stays to be read", async () => {
  const gateway = await house.gateway(needed("AETHER_LETTERS_MEDIUM"));
  const { page, errors, close } = await openPage(`${gateway.url}/#letters`, { bypassCSP: true, expected: [/404/] });
  await live(page);
  await page.addScriptTag({ path: AXE });
  const lamp = await listed(page, /orders\.lamp/);
  const chair = await listed(page, /orders\.chair/);
  await page.getByRole("button", { name: "orders.lamp" }).click();
  await page.getByText("12345678901234567890").waitFor();
  await picture(page, "letters");
  await lamp.getByRole("button", { name: "Replay" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("Send this letter again?").waitFor();
  assert.deepEqual(await serious(page, "dialog"), []);
  await page.keyboard.press("Escape");
  assert.equal(await lamp.count(), 1);
  await lamp.getByRole("button", { name: "Replay" }).click();
  await dialog.getByRole("button", { name: "Send it again" }).click();
  await page.getByText(/Sent again as /).waitFor();

  await chair.getByRole("button", { name: "Drop" }).click();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await chair.count(), 1);
  // Somebody else drops it meanwhile.
  await chair.getByRole("button", { name: "Drop" }).click();
  const { letters } = await (await fetch(`${gateway.url}/api/dead?channel=orders.chair`)).json();
  assert.equal((await fetch(`${gateway.url}/api/dead/${letters[0].id}`, { method: "DELETE" })).status, 200);
  await dialog.getByRole("button", { name: "Drop it" }).click();
  const failure = page.getByRole("alert").filter({ hasText: "The letter on orders.chair was not dropped: " });
  await failure.waitFor();
  await chair.waitFor({ state: "detached" });
  await page.keyboard.press("r");
  await page.getByRole("button", { name: "Read again" }).waitFor();
  assert.equal(await failure.count(), 1, "the list was read anew");
  await failure.getByRole("button", { name: "Close" }).click();
  await failure.waitFor({ state: "detached" });
  assert.deepEqual(errors, []);
  await close();
});

test("dead letters of durable logs are dropped by their program, and stored again in JetStream", async () => {
  const gateway = await house.gateway(needed("AETHER_LETTERS_MEDIUM"), undefined, "--durable", needed("AETHER_OWN_LOG"));
  const { page, errors, close } = await openPage(`${gateway.url}/#letters`);
  await live(page);
  const dialog = page.getByRole("dialog");
  const parts = await listed(page, /parts\.lost .*given up .*depot in JetStream/);
  await parts.getByRole("button", { name: "parts.lost" }).click();
  await page.getByText("attempt 1, ").waitFor();
  await parts.first().getByRole("button", { name: "Replay" }).click();
  await dialog.getByRole("button", { name: "Send it again" }).click();
  await page.getByText(/Sent again as position \d+ of depot/).waitFor();
  const bill = await listed(page, /bills\.sent .*given up/);
  await bill.getByRole("button", { name: "Drop" }).click();
  await dialog.getByRole("button", { name: "Drop it" }).click();
  await page.getByText("The letter was dropped.").waitFor();
  await bill.waitFor({ state: "detached" });
  assert.deepEqual(errors, []);
  await close();
});

test("a durable consumer is looked at, its waves are sent again, and it is dropped", async () => {
  const medium = needed("AETHER_LETTERS_MEDIUM");
  const gateway = await house.gateway(medium, undefined, "--durable", needed("AETHER_OWN_LOG"));
  const { page, errors, close } = await openPage(`${gateway.url}/#durable`, { expected: [/409/] });
  await live(page);
  const dialog = page.getByRole("dialog");
  const detail = page.locator("tr.detail");
  for (const [name, channel] of [["gone", "parts.moved"], ["idle", "bills.sent"]]) {
    const row = page.getByRole("row", { name: new RegExp(`^${name}`) });
    await row.getByRole("button", { name }).click();
    await detail.getByRole("button", { name: "Look at what waits" }).click();
    await detail.getByRole("cell", { name: channel }).first().waitFor();
    const listening = house.aether("listen", channel, "--medium", medium, "--count", "1");
    while (listening.child.exitCode === null) {
      await detail.getByRole("button", { name: "Send what waits again" }).click();
      await dialog.getByRole("button", { name: "Send them again" }).click();
      await page.getByText(/\d+ waves? sent again/).waitFor();
    }
    assert.match(listening.said, new RegExp(channel));
    await detail.getByRole("button", { name: "Drop the consumer" }).click();
    await dialog.getByText(/\d+ waves? that wait/).waitFor();
    await dialog.getByRole("button", { name: "Drop it" }).click();
    await page.getByText(`The consumer ${name} was dropped.`).waitFor();
    await row.waitFor({ state: "detached" });
  }
  // One that a program reads with stays, and the page says why.
  await page.getByRole("row", { name: /^sending/ }).getByRole("button", { name: "sending" }).click();
  await detail.getByRole("button", { name: "Drop the consumer" }).click();
  await dialog.getByRole("button", { name: "Drop it" }).click();
  await page.getByRole("alert").filter({ hasText: "The consumer sending was not dropped: the consumer sending is in use" }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("a durable consumer that is behind has its lag and commands that work", async () => {
  const server = await house.server();
  const gateway = await house.gateway(server.url, undefined, "--durable", LOGS, "--durable", `${LOGS}/nowhere`);
  const permissions = ["clipboard-read", "clipboard-write"];
  const { page, errors, close } = await openPage(`${gateway.url}/#durable`, { permissions });
  await live(page);
  const billing = page.getByRole("row", { name: /^billing/ });
  await billing.waitFor();
  const cells = (row) => row.getByRole("cell").allInnerTexts();
  // The consumer, its pattern, what waits, the past, the oldest, in flight, retrying, dead letters, the last acknowledgement.
  const [name, pattern, waits, , , inFlight, retrying, letters, acknowledged] = await cells(billing);
  assert.deepEqual([name, pattern, waits, inFlight, retrying, letters], ["billing", "orders.>", "20", "0", "0", "1"]);
  assert.match(acknowledged, /ago$/);
  assert.equal((await cells(page.getByRole("row", { name: /^audit/ })))[2], "120");
  await page.getByRole("alert").filter({ hasText: "nowhere" }).waitFor();
  await page.getByText(/Logs in JetStream are not shown: .* has no JetStream for this user/).waitFor();

  await page.getByRole("button", { name: "billing" }).click();
  const command = page.locator("tr.detail .commands li", { hasText: "the last waves behind its position" });
  await command.getByRole("button", { name: "Copy" }).click();
  await command.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied, `aether log tail ${LOGS}/shop 'orders.>' --from 101 -n 20`);
  const said = await house.run(...copied.replaceAll("'", "").split(" ").slice(1));
  assert.equal(said.trim().split("\n").length, 20, said);
  await picture(page, "durable-detail");
  // It reads by itself: a log that is gone is said to be so.
  await rename(`${LOGS}/shop`, `${LOGS}/elsewhere`);
  try {
    await page.getByRole("alert").filter({ hasText: `${LOGS}/shop` }).waitFor();
  } finally {
    await rename(`${LOGS}/elsewhere`, `${LOGS}/shop`);
  }
  await billing.first().waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("a durable consumer in JetStream has its lag and a command that works", async () => {
  const medium = needed("AETHER_LETTERS_MEDIUM");
  const gateway = await house.gateway(medium);
  const { page, errors, close } = await openPage(`${gateway.url}/#durable`);
  await live(page);
  const picking = page.getByRole("row", { name: /^picking/ });
  await picking.waitFor();
  // The consumer, its pattern, what waits, redelivered, delivered up to, in flight, retrying, dead letters, the last one.
  const [name, pattern, waits, redelivered, , , retrying, letters, acknowledged] = await picking.getByRole("cell").allInnerTexts();
  assert.deepEqual([name, pattern, waits, redelivered, retrying, letters], ["picking", "parts.moved", "20", "0", "0", "0"]);
  assert.match(acknowledged, /ago$/);
  await page.getByText(`1 log in JetStream of ${medium}`).waitFor();
  await page.getByRole("button", { name: "picking" }).click();
  const command = page.locator("tr.detail .commands li", { hasText: "all consumers" }).locator("code");
  assert.equal(await command.innerText(), `aether log consumers ${medium}`);
  assert.match(await house.run(...(await command.innerText()).split(" ").slice(1)), /depot\/picking parts\.moved: 20 wait/);
  await picture(page, "durable-jetstream");
  assert.deepEqual(errors, []);
  await close();
});

test("without a durable log the page says how to show one", async () => {
  const server = await house.server();
  const gateway = await house.gateway(server.url);
  const { page, errors, close } = await openPage(`${gateway.url}/#durable`);
  await live(page);
  await page.getByText("No durable log is shown").waitFor();
  await page.getByText("aether gateway --durable /var/lib/aether").waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("with a token for waves, nobody reads, hears or emits without it", async () => {
  const server = await house.server();
  process.env.AETHER_WAVES_TOKEN = "s3cret";
  const gateway = await house.gateway(server.url);
  delete process.env.AETHER_WAVES_TOKEN;
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`);
  await page.getByRole("heading", { name: "A token is needed" }).waitFor();
  await page.getByLabel("Token").fill("guess");
  await page.getByRole("button", { name: "Use the token" }).click();
  await page.getByText("the token is not known").waitFor();
  await page.getByLabel("Token").fill("s3cret");
  await page.getByRole("button", { name: "Use the token" }).click();
  await page.getByLabel("Token").waitFor({ state: "detached" });
  await house.run("emit", "hello.world", "1", "--medium", server.url);
  await page.getByRole("button", { name: "hello.world" }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("off the loopback address a page shows nothing until it has a token", async () => {
  const server = await house.server();
  process.env.AETHER_WAVES_TOKEN = "s3cret";
  const port = await freePort();
  const gateway = house.aether("gateway", "--medium", server.url, "--listen", `0.0.0.0:${port}`);
  await gateway.says(/^gateway: /);
  delete process.env.AETHER_WAVES_TOKEN;
  const { page, errors, close } = await openPage(`http://127.0.0.1:${port}/#ledger`, { bypassCSP: true });
  await page.getByRole("heading", { name: "A token is needed" }).waitFor();
  await page.addScriptTag({ path: AXE });
  assert.deepEqual(await serious(page, "locked"), []);
  await page.getByLabel("Token").fill("guess");
  await page.getByRole("button", { name: "Use the token" }).click();
  await page.getByText("the token is not known").waitFor();
  await page.getByLabel("Token").fill("s3cret");
  await page.getByRole("button", { name: "Use the token" }).click();
  await live(page);
  await page.getByText("adds up").first().waitFor();
  // It is kept for this tab, and the guess is in the log.
  await page.evaluate(() => (location.hash = "overview"));
  await page.reload();
  await live(page);
  await page.locator("#h-log ~ .events li", { hasText: "requests of clients were refused: token" }).first().waitFor();
  assert.deepEqual(errors, []);
  await close();
});

/** The page is not wider than its window. */
async function fits(page, name) {
  const [wide, window_] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window_, `${name} is ${wide} pixels wide in ${window_}`);
  // The navigation of a phone is wider than its screen.
  const link = await page.locator("nav a[aria-current]").boundingBox();
  assert.ok(link.x >= 0 && link.x + link.width <= window_, `the link to ${name} is at ${link.x}`);
}

for (const [look, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { colorScheme: "light", viewport: { width: 400, height: 800 }, reducedMotion: "reduce" }],
]) {
  test(`every page is accessible and fits: ${look}`, async () => {
    const { gateway } = await shop();
    const { page, errors, close } = await openPage(gateway.url, { ...options, bypassCSP: true });
    await live(page);
    await flows(page);
    await page.addScriptTag({ path: AXE });
    // Pictures show a minute of traffic.
    if (PICTURES) await page.waitForTimeout(look === "light" ? 50_000 : 25_000);
    for (const name of PAGES) {
      await goTo(page, name);
      await SHOWN[name](page);
      if (PICTURES) await page.waitForTimeout(1500);
      await fits(page, name);
      if (name === "waves") await page.locator("table.waves tbody tr").nth(2).getByRole("button").click();
      if (name === "services") await page.locator("#h-vibrators ~ .scroll tbody").getByRole("button", { name: "beta" }).click();
      if (name === "durable") await page.getByRole("button", { name: "billing" }).click();
      await picture(page, look === "light" ? name : `${name}-${look}`);
      assert.deepEqual(await serious(page, name), []);
    }
    assert.deepEqual(errors, []);
    await close();
  });
}

test("an overload shows what is lost first", async () => {
  const up = house.aether("up", "--overload", "--listen", "127.0.0.1:0");
  const [, url] = await up.says(/^gateway: (http:\S+)/);
  const { page, errors, close } = await openPage(url, { bypassCSP: true });
  await live(page);
  await page.locator("h1.verdict.bad").filter({ hasText: /^!?\s*Losing/ }).waitFor();
  await page.locator("#h-lost + .scroll tbody tr").first().waitFor();
  if (PICTURES) await page.waitForTimeout(20_000);
  await picture(page, "losing");
  await page.addScriptTag({ path: AXE });
  assert.deepEqual(await serious(page, "overloaded"), []);
  // The map has the place, and the past of it.
  await goTo(page, "map");
  await page.locator(".node.service.bad", { hasText: "bench-receiver" }).locator(".sub").filter({ hasText: /^loses / }).waitFor();
  await page.locator(".edge.hears.bad").waitFor({ state: "attached" });
  assert.deepEqual(await serious(page, "map that loses"), []);
  while ((await (await fetch(`${url}api/history?services=true`)).json()).services.every(({ lost }) => lost.every((waves) => waves === 0))) await seconds(page, 1);
  await page.getByRole("button", { name: "Play back the last hour" }).click();
  const time = page.getByRole("slider", { name: "Time" });
  await time.fill(await time.getAttribute("max"));
  await page.locator(".node.service.bad", { hasText: "bench-receiver" }).waitFor();
  await time.fill("0");
  await page.locator(".node.service.bad", { hasText: "bench-receiver" }).waitFor({ state: "detached" });
  assert.deepEqual(errors, []);
  await close();
});

test("the page is light", async () => {
  const { gateway } = await shop();
  const { page, close } = await openPage(gateway.url);
  await live(page);
  // How soon it is there is measured by `cargo xtask bench page`.
  const bytes = await page.evaluate(() => [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
    .filter((entry) => !new URL(entry.name).pathname.startsWith("/api/"))
    .reduce((sum, entry) => sum + entry.encodedBodySize, 0));
  console.log(`${bytes} bytes compressed`);
  assert.ok(bytes < 300_000, `${bytes}`);
  await close();
});

// They show traffic of a minute, so they are made on request only.
if (PICTURES) {
  test("pictures of the README", async () => {
    const up = house.aether("up", "--overload", "--listen", "127.0.0.1:0");
    const [, url] = await up.says(/^gateway: (http:\S+)/);
    const losing = await openPage(url);
    await losing.page.locator("h1.verdict.bad").filter({ hasText: "Losing" }).waitFor();
    await losing.page.waitForTimeout(60_000);
    await pictures(losing.page, "overview");
    await losing.close();
    await up.kill();

    const size = { width: 1000, height: 640 };
    const { server, gateway, beta } = await shop();
    const { page, close } = await openPage(gateway.url, { viewport: size });
    await live(page);
    await flows(page);
    await page.waitForTimeout(30_000);
    const file = await recorded(page, size, async () => {
      await page.waitForTimeout(2_500);
      await beta.kill();
      await page.locator(".incident.critical").first().waitFor();
      await page.waitForTimeout(4_000);
      house.aether("beta", "--medium", server.url);
      await page.locator("h1.verdict.good").waitFor();
      await page.waitForTimeout(3_000);
    });
    await writeFile(`${PICTURES}/incident.webp`, file);
    assert.ok(file.length < 1_000_000, `${file.length}`);
    await page.setViewportSize({ width: 1280, height: 880 });
    await goTo(page, "map");
    await SHOWN.map(page);
    await page.waitForTimeout(3_000);
    await pictures(page, "map");
    await page.setViewportSize({ width: 1280, height: 600 });
    await goTo(page, "spectrum");
    await page.waitForTimeout(20_000);
    await pictures(page, "spectrum");
    await page.setViewportSize({ width: 1280, height: 860 });
    await goTo(page, "waves");
    // One in the middle of a request, which is over when the picture is taken.
    await page.locator("table.waves tbody tr", { hasText: "payments.charge" }).nth(8).getByRole("button").click();
    await page.getByLabel("One wave").locator("ul.chain li").first().waitFor();
    await page.evaluate(() => scrollTo(0, 0));
    await page.getByLabel("One wave").evaluate((inspector) => inspector.scrollTo(0, inspector.scrollHeight));
    await pictures(page, "waves");
    await close();
  });
}
