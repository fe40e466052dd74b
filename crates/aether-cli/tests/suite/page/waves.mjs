// The page Waves: emit, ask, copy, chains and filters.

import assert from "node:assert/strict";
import { openPage } from "./house.mjs";
import { commonShop, live, narrow, pause, seconds, shop, test } from "./stage.mjs";

test("a wave that is emitted from the page arrives, and a question is answered or refused", async (house) => {
  const { server, gateway } = await shop(house);
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
  // What it said may still be on its way when it has ended.
  await listening.ended;
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

test("a wave is copied as a command that emits it as it was, whatever its names are", async (house) => {
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
  const { gateway } = await commonShop();
  const { page, errors, close } = await openPage(`${gateway.url}/#waves`);
  await live(page);
  // Nothing but one channel in the middle of a request is received.
  await narrow(page, "payments.charge");
  const command = page.locator("table.waves tbody tr", { hasText: "command" }).nth(2);
  await command.waitFor();
  await pause(page);
  await command.getByRole("button").click();
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
  const { gateway } = await commonShop();
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
