// One filter for all pages, the spectrum, and keys.

import assert from "node:assert/strict";
import { openPage } from "./house.mjs";
import { AXE, commonShop, drawn, flows, goTo, live, serious, test } from "./stage.mjs";

test("a click on a channel narrows every page, and Escape and the chip show all again", async () => {
  const { gateway } = await commonShop("--no-physics");
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
    const { gateway } = await commonShop("--no-physics");
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
  const { gateway } = await commonShop();
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
