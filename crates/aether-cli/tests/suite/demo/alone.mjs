// One person at a demo: by keys alone, on a phone, in the dark, and with a reader of the screen.

import assert from "node:assert/strict";
import { picture } from "../page/pictures.mjs";
import { AXE, serious, test } from "../page/stage.mjs";
import { House } from "../page/house.mjs";
import { after } from "node:test";
import { addCard, agree, board, demos, kept, lines, map, offline, open, retitle, stored, until } from "./ground.mjs";

const house = new House();
after(() => house.close());
let common;
/** The program of those tests that change nothing that another one sees. */
const program = () => (common ??= demos(house));

const active = (page) => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.id);
const says = (page, text) => page.locator("#said", { hasText: text }).waitFor();

/** Goes on with Tab, or back, until the element of this name has the focus. */
async function tabTo(page, name, key = "Tab") {
  for (let steps = 0; steps < 80; steps += 1) {
    if (name.test(await active(page))) return;
    await page.keyboard.press(key);
  }
  throw new Error(`Tab never gets to ${name}`);
}

test("board: by keys alone", async (own) => {
  const { page, errors, close } = await open(await demos(own), "kanban");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await tabTo(page, /^New card in To do$/);
  await page.keyboard.type("keys");
  await page.keyboard.press("Enter");
  await says(page, "Added “keys”.");
  await tabTo(page, /^Move the card keys$/, "Shift+Tab");
  await page.keyboard.press("ArrowUp");
  await says(page, "“keys” is in To do, 2 of 3.");
  await page.keyboard.press("ArrowRight");
  await says(page, "“keys” is in Doing, 2 of 2.");
  // The handle goes with the card.
  await until(() => active(page), (name) => name === "Move the card keys");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.getByRole("combobox", { name: "Column" }).press("End");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("button", { name: "Move" }).focus();
  await page.keyboard.press("Enter");
  await agree([page], board, ([, , done]) => done.join() === "Done,Open the board,keys");
  await tabTo(page, /^Title of the card: keys/);
  await page.keyboard.press("Enter");
  await page.keyboard.type("changed");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Enter");
  await page.keyboard.press("End");
  await page.keyboard.type("!");
  await page.keyboard.press("Enter");
  await agree([page], board, ([, , done]) => done.join() === "Done,Open the board,keys!");
  await tabTo(page, /^Priority of keys!$/);
  await page.keyboard.press("h");
  await page.locator(".item.high", { hasText: "keys!" }).waitFor();
  await tabTo(page, /^Delete the card keys!$/);
  await page.keyboard.press("Enter");
  await agree([page], board, ([, , done]) => done.length === 2);
  await until(() => active(page), (name) => name === "Move the card Open the board");
  await tabTo(page, /^Move the column Done$/, "Shift+Tab");
  await page.keyboard.press("ArrowLeft");
  await agree([page], board, (seen) => seen.map(([title]) => title).join() === "To do,Done,Doing");
  await tabTo(page, /^Delete the column Done$/);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await until(() => page.evaluate(() => document.activeElement.textContent), (text) => text === "Cancel");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await agree([page], board, (seen) => seen.map(([title]) => title).join() === "To do,Doing");
  assert.deepEqual(errors, []);
  await close();
});

test("text: by keys alone", async (own) => {
  const { page, errors, close } = await open(await demos(own), "markdown");
  const first = await agree([page], lines, (seen) => seen.length === 6);
  await tabTo(page, /^Line 1$/);
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  await page.keyboard.type("ab");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  await agree([page], lines, (seen) => seen.slice(0, 3).join("|") === `${first[0]}|a|b`);
  await page.keyboard.press("Alt+ArrowUp");
  await agree([page], lines, (seen) => seen.slice(0, 3).join("|") === `${first[0]}|b|a`);
  await page.keyboard.press("Backspace");
  await agree([page], lines, (seen) => seen[0] === `${first[0]}b` && seen[1] === "a");
  await page.keyboard.type("c");
  await agree([page], lines, (seen) => seen[0] === `${first[0]}cb`);
  await page.keyboard.press("ArrowDown");
  await until(() => active(page), (name) => name === "Line 2");
  await page.keyboard.press("Control+Shift+K");
  await agree([page], lines, (seen) => seen[1] === first[1]);
  await until(() => active(page), (name) => name === "Line 2");
  await tabTo(page, /^Move line 3$/);
  await page.keyboard.press("ArrowUp");
  await says(page, "Line 2 of 6.");
  await agree([page], lines, (seen) => seen[1] === "" && seen[2] === first[1]);
  await tabTo(page, /^add$/);
  await page.keyboard.press("Enter");
  await until(() => active(page), (name) => name === "Line 7");
  assert.deepEqual(errors, []);
  await close();
});

test("map: by keys alone", async (own) => {
  const { page, errors, close } = await open(await demos(own), "topology");
  await tabTo(page, /^name$/);
  await page.keyboard.press("Control+a");
  await page.keyboard.type("Keys");
  await page.keyboard.press("Enter");
  await page.locator(".device", { hasText: "Keys" }).waitFor();
  await tabTo(page, /^Keys, this tab$/);
  const place = () => page.locator(".device.own").getAttribute("transform");
  const before = await place();
  await page.keyboard.press("Shift+ArrowLeft");
  await until(place, (now) => now !== before);
  await page.keyboard.press("Enter");
  await says(page, "A link begins at Keys.");
  await tabTo(page, /^Gateway/, "Shift+Tab");
  await page.keyboard.press("Enter");
  await agree([page], map, ({ links }) => links.length === 1);
  await tabTo(page, /^Link of /, "Shift+Tab");
  await page.keyboard.press("Delete");
  await agree([page], map, ({ links }) => links.length === 0);
  await tabTo(page, /^Link Keys$/);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  await until(() => page.locator(".device.from").count(), (count) => count === 0);
  assert.deepEqual(errors, []);
  await close();
});

for (const [look, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { colorScheme: "light", viewport: { width: 400, height: 800 }, hasTouch: true }],
]) {
  test(`every demo is accessible and fits: ${look}`, async (own) => {
    // One program at a time goes away here.
    const served = await demos(own);
    const { page, errors, close, more } = await open(served, "kanban", { ...options, bypassCSP: true });
    await retitle(page, "card", "Open the board", "x".repeat(40_000));
    await page.locator("#notices .bad").waitFor();
    await addCard(page, "a title that does not end ".repeat(6) + "orwhosewordsarelongerthanthecolumnthatholdsthem".repeat(2));
    await stored(page);
    const other = await more("markdown");
    await other.getByRole("textbox", { name: "Line 2", exact: true }).click();
    for (const name of ["kanban", "markdown", "topology"]) {
      if (name !== "kanban") await page.goto(`${served.url}${name}.html`);
      if (name === "markdown") await page.locator(".flag").waitFor();
      if (name === "topology") await page.locator("#devices .row").nth(2).waitFor();
      await check(page, `${name}-${look}`);
    }
    await page.goto(`${served.url}kanban.html`);
    if (look === "light") {
      await page.getByRole("button", { name: "Move the card Open the board" }).click();
      await page.getByRole("dialog").waitFor();
      await check(page, "choice");
      await page.keyboard.press("Escape");
    }
    await kept(page);
    await served.kill();
    await offline(page);
    await page.getByRole("button", { name: "Delete the column Doing" }).click();
    await page.getByRole("button", { name: "Delete the column and its card" }).click();
    await page.locator("#banner", { hasText: "changes wait" }).waitFor();
    await check(page, `offline-${look}`);
    await stored(page);
    await page.goto(served.url);
    await check(page, `index-${look}`);
    assert.deepEqual(errors, []);
    await close();
  });
}

async function check(page, name) {
  await page.addScriptTag({ path: AXE });
  await picture(page, `demo-${name}`);
  assert.deepEqual(await serious(page, name), []);
  const [wide, window_] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(wide <= window_, `${name} is ${wide} pixels wide in ${window_}`);
}

test("phone: a finger drags a card by its handle, and scrolls elsewhere", async () => {
  const { page, errors, close } = await open(await program(), "kanban", { viewport: { width: 400, height: 800 }, hasTouch: true, isMobile: true });
  const [grip, target] = [page.getByRole("button", { name: "Move the card Open this page in a second window" }), page.getByRole("listitem").filter({ hasText: "Move a card with the arrow keys" })];
  const devtools = await page.context().newCDPSession(page);
  const touch = async (type, x, y) => devtools.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x, y }] });
  const [from, to] = [await grip.boundingBox(), await target.boundingBox()];
  await touch("touchStart", from.x + 10, from.y + 10);
  await touch("touchMove", from.x + 14, from.y + 40);
  await page.locator(".dragged").waitFor();
  await touch("touchMove", to.x + 60, to.y + 4);
  await page.locator(".drop-before").waitFor();
  await touch("touchEnd");
  await agree([page], board, ([, doing]) => doing.join() === "Doing,Open this page in a second window,Move a card with the arrow keys");
  assert.deepEqual(errors, []);
  await close();
});
