// Queues of running services, and their schedules.

import assert from "node:assert/strict";
import { needed, openPage } from "./house.mjs";
import { fits } from "./looks.mjs";
import { picture } from "./pictures.mjs";
import { AXE, goTo, live, serious, test } from "./stage.mjs";

test("a queue is paused, its waves are retried and cancelled, and a schedule ends, each after a question", async (house) => {
  const gateway = await house.gateway(needed("AETHER_LETTERS_MEDIUM"));
  const { page, errors, close } = await openPage(`${gateway.url}/#queues`, { bypassCSP: true });
  await live(page);
  await page.addScriptTag({ path: AXE });
  const dialog = page.getByRole("dialog");
  const mailer = page.getByRole("row", { name: /^mailer/ });
  await mailer.waitFor();
  // The consumer, its service, what waits, the oldest, what runs, what fails.
  const [name, service, waits, , runs, fails] = await mailer.getByRole("cell").allInnerTexts();
  assert.deepEqual([name.replaceAll(/\s+/g, " "), service, waits, fails], ["mailer mail.*", "post", "0", "1"]);
  assert.match(runs, /^1 /);
  await mailer.getByRole("button", { name: "mailer" }).click();
  const wave = (text) => page.locator("tr.detail").getByRole("row", { name: text });
  await wave(/^1 mail\.send 17 2 due in .* no such address/).waitFor();
  await wave(/^2 mail\.send 18 1 runs for /).waitFor();
  await picture(page, "queues-open");
  assert.deepEqual(await serious(page, "queues"), []);
  await page.setViewportSize({ width: 400, height: 800 });
  await goTo(page, "letters");
  await goTo(page, "queues");
  await mailer.getByRole("button", { name: "mailer" }).click();
  await wave(/^2 mail\.send 18 1 runs for /).waitFor();
  await fits(page, "queues");
  await picture(page, "queues-open-phone");
  await page.setViewportSize({ width: 1280, height: 860 });

  await mailer.getByRole("button", { name: "Pause" }).click();
  await dialog.getByText("Pause mailer?").waitFor();
  assert.deepEqual(await serious(page, "dialog"), []);
  await page.keyboard.press("Escape");
  assert.equal(await mailer.getByText("paused").count(), 0);
  for (const [button, verb, done] of [["Pause", "Pause it", "mailer is paused."], ["Resume", "Resume it", "mailer goes on."]]) {
    await mailer.getByRole("button", { name: button }).click();
    await dialog.getByRole("button", { name: verb }).click();
    await page.getByText(done).waitFor();
  }
  await mailer.getByRole("button", { name: "Pause" }).waitFor();
  await wave(/^1 /).getByRole("button", { name: "Retry" }).click();
  await dialog.getByRole("button", { name: "Retry it" }).click();
  await wave(/^1 mail\.send 17 3 due in /).waitFor();
  await wave(/^1 /).getByRole("button", { name: "Cancel" }).click();
  await dialog.getByRole("button", { name: "Make it a dead letter" }).click();
  await page.getByText("Wave 1 is a dead letter now.").waitFor();
  await wave(/^1 /).waitFor({ state: "detached" });

  // Its letter is one click away.
  await mailer.getByRole("link", { name: "1" }).click();
  await page.locator(".chip", { hasText: "mail.*" }).waitFor();
  await page.getByRole("row", { name: /^mail\.send .*cancelled/ }).waitFor();
  await page.keyboard.press("Escape");
  await goTo(page, "queues");
  const nightly = page.getByRole("row", { name: /^nightly 0 3 \* \* \* Europe\/Berlin mail\.send/ });
  await nightly.getByRole("button", { name: "End", exact: true }).click();
  await dialog.getByRole("button", { name: "End it" }).click();
  await page.getByText("The schedule nightly has ended.").waitFor();
  await nightly.waitFor({ state: "detached" });
  assert.deepEqual(errors, []);
  await close();
});
