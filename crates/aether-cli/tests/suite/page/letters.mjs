// Dead letters and durable logs.

import assert from "node:assert/strict";
import { cp, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { needed, openPage } from "./house.mjs";
import { picture } from "./pictures.mjs";
import { AXE, LOGS, live, serious, shop, test } from "./stage.mjs";

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

test("a dead letter is inspected, replayed and dropped, each after a question, and an error stays to be read", async (house) => {
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

test("dead letters of durable logs are dropped by their program, and stored again in JetStream", async (house) => {
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

test("a durable consumer is looked at, its waves are sent again, and it is dropped", async (house) => {
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
    // What it said may still be on its way when it has ended.
    await listening.ended;
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

test("a durable consumer that is behind has its lag and commands that work", async (house) => {
  // A copy, because one of its logs goes away for a while.
  const logs = await mkdtemp(join(tmpdir(), "aether-logs-"));
  await cp(LOGS, logs, { recursive: true });
  const server = await house.server();
  const gateway = await house.gateway(server.url, undefined, "--durable", logs, "--durable", `${logs}/nowhere`);
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
  assert.equal(copied, `aether log tail ${logs}/shop 'orders.>' --from 101 -n 20`);
  const said = await house.run(...copied.replaceAll("'", "").split(" ").slice(1));
  assert.equal(said.trim().split("\n").length, 20, said);
  await picture(page, "durable-detail");
  // It reads by itself: a log that is gone is said to be so.
  await rename(`${logs}/shop`, `${logs}/elsewhere`);
  try {
    await page.getByRole("alert").filter({ hasText: `${logs}/shop` }).waitFor();
  } finally {
    await rename(`${logs}/elsewhere`, `${logs}/shop`);
  }
  await billing.first().waitFor();
  assert.deepEqual(errors, []);
  await close();
  await rm(logs, { recursive: true });
});

test("a durable consumer in JetStream has its lag and a command that works", async (house) => {
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

test("without a durable log the page says how to show one", async (house) => {
  const server = await house.server();
  const gateway = await house.gateway(server.url);
  const { page, errors, close } = await openPage(`${gateway.url}/#durable`);
  await live(page);
  await page.getByText("No durable log is shown").waitFor();
  await page.getByText("aether gateway --durable /var/lib/aether").waitFor();
  assert.deepEqual(errors, []);
  await close();
});
