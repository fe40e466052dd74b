// The pages of the gateway in a real browser.

import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { after, afterEach, beforeEach, test as run } from "node:test";
import { House, PATIENCE, closeBrowser, freePort, needed, openPage, packages } from "./house.mjs";
import { PICTURES, picture, pictures, recorded } from "./pictures.mjs";

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
      await page.getByRole("button", { name: "beta" }).first().click();
      await page.locator("tr.detail td", { hasText: /^beta/ }).first().waitFor();
    }
  }
  assert.deepEqual(errors, []);
  await close();
});

test("a wave that is emitted from the page arrives, and a question is answered or refused", async () => {
  const { server, gateway } = await shop();
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`);
  await live(page);
  await page.getByLabel("Channel", { exact: true }).first().fill("page.>");
  await page.keyboard.press("Enter");
  await page.getByText("No wave matches").waitFor();
  const listening = house.aether("listen", "page.>", "--medium", server.url, "--count", "1");
  await page.getByRole("button", { name: "Emit a wave" }).click();
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

  await form.getByLabel("Channel").fill("nobody.knows");
  await form.getByRole("button", { name: /Ask/ }).click();
  await page.locator("#emit-result.error").filter({ hasText: "nobody listens on nobody.knows" }).waitFor();
  await form.getByLabel("Payload").fill("{not json");
  await form.getByRole("button", { name: "Emit", exact: true }).click();
  await page.locator("#emit-result.error").filter({ hasText: "The payload is not JSON" }).waitFor();
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
  await page.getByLabel("Channel", { exact: true }).first().fill("payload.>");
  await page.keyboard.press("Enter");
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

test("an empty bus says how to emit the first wave", async () => {
  const server = await house.server();
  const gateway = await house.gateway(server.url);
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  await page.getByText("aether emit hello.world").waitFor();
  await house.run("emit", "hello.world", '{"n":1}', "--medium", server.url);
  await page.getByRole("button", { name: "hello.world" }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("a dead letter is inspected, replayed and dropped", async () => {
  const gateway = await house.gateway(needed("AETHER_LETTERS_MEDIUM"));
  const { page, errors, close } = await openPage(`${gateway.url}/#letters`);
  await live(page);
  // Services announce themselves within about a second.
  const rows = page.locator("tbody tr");
  while ((await rows.count()) === 0) {
    await page.keyboard.press("r");
    await page.getByRole("button", { name: "Read again" }).waitFor();
    await page.waitForTimeout(100);
  }
  assert.equal(await rows.count(), 2);
  await page.getByRole("button", { name: "orders.lamp" }).click();
  await page.getByText("12345678901234567890").waitFor();
  await picture(page, "letters");
  await page.getByRole("row", { name: /orders\.lamp/ }).getByRole("button", { name: "Replay" }).click();
  await page.getByText(/Sent again as /).waitFor();
  const chair = page.getByRole("row", { name: /orders\.chair/ });
  await chair.getByRole("button", { name: "Drop" }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal(await chair.count(), 1);
  await chair.getByRole("button", { name: "Drop" }).click();
  await page.getByRole("button", { name: "Drop it" }).click();
  await page.getByText("The letter was dropped").waitFor();
  await chair.waitFor({ state: "detached" });
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
  assert.deepEqual([name, pattern, waits, redelivered, retrying, letters], ["picking", "parts.>", "20", "0", "0", "0"]);
  assert.match(acknowledged, /ago$/);
  await page.getByText(`1 log in JetStream of ${medium}`).waitFor();
  await page.getByRole("button", { name: "picking" }).click();
  const command = page.locator("tr.detail .commands li", { hasText: "all consumers" }).locator("code");
  assert.equal(await command.innerText(), `aether log consumers ${medium}`);
  assert.match(await house.run(...(await command.innerText()).split(" ").slice(1)), /depot\/picking parts\.>: 20 wait/);
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
  const { page, errors, close } = await openPage(`http://127.0.0.1:${port}/#ledger`);
  await page.getByRole("heading", { name: "A token is needed" }).waitFor();
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
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      const said = serious.map(({ id, nodes }) => `${name}: ${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
      await picture(page, look === "light" ? name : `${name}-${look}`);
      assert.deepEqual(said, []);
    }
    assert.deepEqual(errors, []);
    await close();
  });
}

test("an overload shows what is lost first", async () => {
  const up = house.aether("up", "--overload", "--listen", "127.0.0.1:0");
  const [, url] = await up.says(/^gateway: (http:\S+)/);
  const { page, errors, close } = await openPage(url);
  await live(page);
  await page.locator("h1.verdict.bad").filter({ hasText: /^!?\s*Losing/ }).waitFor();
  await page.locator("#h-lost + .scroll tbody tr").first().waitFor();
  if (PICTURES) await page.waitForTimeout(20_000);
  await picture(page, "losing");
  assert.deepEqual(errors, []);
  await close();
});

test("the first paint is quick and the page is light", async () => {
  const { gateway } = await shop();
  const { page, close } = await openPage(gateway.url);
  await live(page);
  const measured = await page.evaluate(() => ({
    paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    bytes: [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
      .filter((entry) => !new URL(entry.name).pathname.startsWith("/api/"))
      .reduce((sum, entry) => sum + entry.encodedBodySize, 0),
  }));
  console.log(`first contentful paint ${measured.paint.toFixed(0)} ms, ${measured.bytes} bytes compressed`);
  assert.ok(measured.bytes < 300_000, `${measured.bytes}`);
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
    await page.setViewportSize({ width: 1280, height: 704 });
    await goTo(page, "map");
    await SHOWN.map(page);
    await page.waitForTimeout(3_000);
    await pictures(page, "map");
    await close();
  });
}
