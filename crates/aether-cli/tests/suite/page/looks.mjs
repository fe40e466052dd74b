// How the pages look: readers, screens, an overload, their weight, and pictures.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { openPage } from "./house.mjs";
import { PICTURES, picture, pictures, recorded } from "./pictures.mjs";
import { AXE, PAGES, SHOWN, commonShop, flows, goTo, live, pause, seconds, serious, shop, shows, test } from "./stage.mjs";

/** The page is not wider than its window. */
export async function fits(page, name) {
  const [wide, window_] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window_, `${name} is ${wide} pixels wide in ${window_}`);
  // The navigation of a phone is wider than its screen.
  const link = await page.locator("nav a[aria-current]").boundingBox();
  assert.ok(link.x >= 0 && link.x + link.width <= window_, `the link to ${name} is at ${link.x}`);
}

for (const [look, options] of [
  ["light", { colorScheme: "light", reducedMotion: "no-preference" }],
  ["dark", { colorScheme: "dark", reducedMotion: "no-preference" }],
  ["phone", { colorScheme: "light", viewport: { width: 400, height: 800 }, reducedMotion: "reduce" }],
]) {
  test(`every page is accessible and fits: ${look}`, async () => {
    const { gateway } = await commonShop();
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
      if (name === "waves") await pause(page);
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

test("an overload shows what is lost first", async (house) => {
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
  const { gateway } = await commonShop();
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
  test("pictures of the README", async (house) => {
    const up = house.aether("up", "--overload", "--listen", "127.0.0.1:0");
    const [, url] = await up.says(/^gateway: (http:\S+)/);
    const losing = await openPage(url, { reducedMotion: "no-preference" });
    await losing.page.locator("h1.verdict.bad").filter({ hasText: "Losing" }).waitFor();
    await losing.page.waitForTimeout(60_000);
    await pictures(losing.page, "overview");
    await losing.close();
    await up.kill();

    const size = { width: 1000, height: 640 };
    const { server, gateway, beta } = await shop(house);
    const { page, close } = await openPage(gateway.url, { viewport: size, reducedMotion: "no-preference" });
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
