// The pages of the gateway in a real browser. The other files beside this one are parts of it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { freePort, needed, openPage } from "./house.mjs";
import { picture } from "./pictures.mjs";
import { AWAY, AXE, PAGES, commonShop, flows, goTo, live, narrow, pause, runAll, serious, shop, shows, test } from "./stage.mjs";
import "./looks.mjs";
import "./map.mjs";
import "./letters.mjs";
import "./queues.mjs";
import "./narrowing.mjs";
import "./waves.mjs";

test("every page shows the order system, with keys alone, and without errors", async () => {
  const { gateway } = await commonShop();
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  for (const [at, name] of PAGES.entries()) {
    await page.keyboard.press(String((at + 1) % 10));
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

test("names from the network are shown as text and never run", async (house) => {
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
  await page.getByRole("button", { name: "payload.deep" }).first().waitFor();
  await page.getByRole("button", { name: "payload.digits" }).first().waitFor();
  // A row that is drawn again between press and release is not clicked.
  await pause(page);
  await page.getByRole("button", { name: "payload.digits" }).first().click();
  await page.getByLabel("One wave").getByText('"n": 12345678901234567890').waitFor();
  await page.getByRole("button", { name: "payload.deep" }).first().click();
  await page.getByLabel("One wave").getByText("payload.deep").first().waitFor();
  assert.equal(await page.locator("b", { hasText: /^evil$/ }).count(), 0);
  assert.deepEqual(errors, []);
  await close();
});

test("a service that ends is one incident", async (house) => {
  const { gateway, beta } = await shop(house);
  const { page, errors, close } = await openPage(gateway.url);
  await live(page);
  await flows(page);
  // The detectors have to know the streams before they can miss one.
  await goTo(page, "map");
  await page.locator("#h-edges + .scroll tbody tr").first().waitFor();
  await goTo(page, "overview");
  await beta.kill();
  // Those of others are not counted: a busy machine may hold them up.
  const incident = page.locator(".incident.critical, .incident.warning").filter({ hasText: "beta" });
  await incident.filter({ hasText: "beta stopped" }).waitFor();
  assert.equal(await incident.count(), 1);
  await picture(page, "incident");
  await goTo(page, "incidents");
  await incident.getByText("as a test").click();
  await incident.locator("code", { hasText: "aether physics --replay today.rec --as-test " }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("the gateway and the server are killed and come back while the page is open", async (house) => {
  const { server, gateway } = await shop(house);
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

test("an empty bus says how to emit the first wave, also inside of one process, and the command works", async (house) => {
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
  const [status] = await once(spawn("sh", ["-c", command], { stdio: "ignore" }), "exit");
  assert.equal(status, 0, command);
  await goTo(page, "overview");
  await page.getByRole("button", { name: "hello.world" }).waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test("with a token for waves, nobody reads, hears or emits without it", async (house) => {
  const server = await house.server();
  house.env = { AETHER_WAVES_TOKEN: "s3cret" };
  const gateway = await house.gateway(server.url);
  house.env = {};
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

test("off the loopback address a page shows nothing until it has a token", async (house) => {
  const server = await house.server();
  house.env = { AETHER_WAVES_TOKEN: "s3cret" };
  const port = await freePort();
  const gateway = house.aether("gateway", "--medium", server.url, "--listen", `0.0.0.0:${port}`);
  await gateway.says(/^gateway: /);
  house.env = {};
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

runAll();
