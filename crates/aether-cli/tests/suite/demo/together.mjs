// Several people at one demo: all see the same, and nobody loses what another one did.

import assert from "node:assert/strict";
import { test } from "../page/stage.mjs";
import { addCard, agree, board, card, column, demos, device, line, lines, map, names, offline, online, open, reconnect, reload, retitle, until } from "./ground.mjs";

/** Drags with the mouse from the middle of an element to a place at another one, in shares of it. */
async function drag(page, from, to, [across, down]) {
  const [begin, end] = [await from.boundingBox(), await to.boundingBox()];
  await page.mouse.move(begin.x + begin.width / 2, begin.y + 3);
  await page.mouse.down();
  await page.mouse.move(end.x + end.width / 2, end.y + end.height / 2, { steps: 3 });
  await page.mouse.move(end.x + end.width * across, end.y + end.height * down, { steps: 3 });
  await page.mouse.up();
}

test("board: two tabs and another browser converge, by mouse, with titles, priorities and deletions", async (house) => {
  const program = await demos(house);
  const one = await open(program, "kanban");
  const tab = await one.more();
  const two = await open(program, "kanban");
  const all = [one.page, tab, two.page];
  const first = await agree(all, board);
  assert.deepEqual(first, [
    ["To do", "Open this page in a second window", "Stop the gateway, and go on working"],
    ["Doing", "Move a card with the arrow keys"],
    ["Done", "Open the board"],
  ]);

  await addCard(one.page, "from one");
  await addCard(tab, "from the tab", "Doing");
  await addCard(two.page, "from two", "Done");
  await agree(all, board, (seen) => seen.flat().length === 10);
  await drag(two.page, card(two.page, "from one"), card(two.page, "Open the board"), [0.5, 0.1]);
  await agree(all, board, ([, , done]) => done.join() === "Done,from one,Open the board,from two");
  await retitle(tab, "card", "from one", "<b>renamed</b>");
  await card(one.page, "from two").getByRole("combobox", { name: "Priority of from two" }).selectOption("high");
  await card(two.page, "from two").and(two.page.locator(".high")).waitFor();
  await card(tab, "from two").and(tab.locator(".high")).waitFor();
  await agree(all, board, ([, , done]) => done[1] === "<b>renamed</b>");

  await two.page.getByRole("textbox", { name: "Title of a new column" }).fill("Ideas");
  await two.page.keyboard.press("Enter");
  await column(one.page, "Ideas").waitFor();
  await drag(one.page, one.page.getByRole("button", { name: "Move the column Ideas" }), column(one.page, "Doing"), [0.2, 0.5]);
  await agree(all, board, (seen) => seen.map(([title]) => title).join() === "To do,Ideas,Doing,Done");
  await tab.getByRole("button", { name: "Delete the column Doing" }).click();
  await tab.getByRole("dialog").getByRole("button", { name: "Delete the column and its 2 cards" }).click();
  await agree(all, board, (seen) => seen.map(([title]) => title).join() === "To do,Ideas,Done" && seen.flat().length === 8);
  // A drag that is given up moves nothing.
  const [begin, end] = [await card(one.page, "from two").boundingBox(), await column(one.page, "To do").boundingBox()];
  await one.page.mouse.move(begin.x + 40, begin.y + 3);
  await one.page.mouse.down();
  await one.page.mouse.move(end.x + 60, end.y + 80, { steps: 4 });
  await one.page.locator(".dragged").waitFor();
  await one.page.keyboard.press("Escape");
  await one.page.locator(".dragged").waitFor({ state: "detached" });
  await one.page.mouse.up();
  await agree(all, board, ([todo]) => todo.length === 3);
  assert.deepEqual([...one.errors, ...two.errors], []);
  await Promise.all([one.close(), two.close()]);
});

test("board: moves of two people at once keep both cards; a deleted column stays deleted, and its new card is not lost", async (house) => {
  const program = await demos(house);
  const [one, two] = [await open(program, "kanban"), await open(program, "kanban")];
  const all = [one.page, two.page];
  await program.kill();
  await Promise.all(all.map(offline));
  // Both move another card to one place, and both move the same card.
  await one.page.getByRole("button", { name: "Move the card Open this page in a second window" }).press("ArrowRight");
  await two.page.getByRole("button", { name: "Move the card Stop the gateway, and go on working" }).press("ArrowUp");
  await two.page.getByRole("button", { name: "Move the card Stop the gateway, and go on working" }).press("ArrowRight");
  await one.page.getByRole("button", { name: "Move the card Open the board" }).press("ArrowLeft");
  await two.page.getByRole("button", { name: "Move the card Open the board" }).press("ArrowLeft");
  await two.page.getByRole("button", { name: "Move the card Open the board" }).press("ArrowLeft");
  await retitle(one.page, "column", "To do", "Later");
  // One deletes a column while the other one fills it.
  await one.page.getByRole("button", { name: "Delete the column Done" }).click();
  await addCard(two.page, "late", "Done");
  const again = await demos(house, program);
  await reconnect(...all);
  const seen = await agree(all, board, (now) => now.flat().includes("late") && now.flat().includes("Later"));
  assert.deepEqual(seen.map(([title]) => title), ["Without a column", "Later", "Doing"]);
  assert.deepEqual(seen[0], ["Without a column", "late"]);
  assert.deepEqual(seen.flat().sort(), ["Doing", "Later", "Move a card with the arrow keys", "Open the board", "Open this page in a second window", "Stop the gateway, and go on working", "Without a column", "late"]);

  await one.page.getByRole("button", { name: "Move the card late" }).press("ArrowRight");
  await agree(all, board, (now) => now.map(([title]) => title).join() === "Later,Doing");
  // A reset that is not confirmed changes nothing, and neither does a reload.
  await one.page.getByRole("button", { name: "Reset the board" }).click();
  await one.page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  const before = await board(one.page);
  await reload(one.page);
  await online(one.page);
  assert.deepEqual(await agree(all, board, (now) => now.length === 2), before);
  const three = await open(again, "kanban");
  assert.deepEqual(await agree([three.page], board, (now) => now.length === 2), before);
  await one.page.getByRole("button", { name: "Reset the board" }).click();
  await one.page.getByRole("dialog").getByRole("button", { name: "Reset the board" }).click();
  await agree([...all, three.page], board, (now) => now.map(([title]) => title).join() === "To do,Doing,Done" && now.flat().length === 7);
  assert.deepEqual([...one.errors, ...two.errors, ...three.errors], []);
  await Promise.all([one.close(), two.close(), three.close()]);
});

test("text: lines of two tabs and another browser; cursors of others are shown, and the own one is not", async (house) => {
  const program = await demos(house);
  const one = await open(program, "markdown");
  const tab = await one.more();
  const two = await open(program, "markdown");
  const all = [one.page, tab, two.page];
  const first = await agree(all, lines, (seen) => seen.length === 6);

  await line(one.page, 2).click();
  await one.page.keyboard.press("Control+Home");
  await one.page.keyboard.type("One: ");
  await line(two.page, 6).click();
  await two.page.keyboard.press("Control+End");
  await two.page.keyboard.press("Enter");
  await two.page.keyboard.type("two writes **here**");
  await line(tab, 1).click();
  await tab.keyboard.press("Control+End");
  await tab.keyboard.type("!");
  const expected = [`${first[0]}!`, `One: ${first[1]}`, ...first.slice(2), "two writes **here**"];
  await agree(all, lines, (seen) => JSON.stringify(seen) === JSON.stringify(expected));
  await Promise.all(all.map((page) => page.locator("#preview li strong", { hasText: "here" }).or(page.locator("#preview p strong", { hasText: "here" })).waitFor()));

  const flags = (page) => page.evaluate(() => [...document.querySelectorAll(".line")].flatMap((row, at) => [...row.querySelectorAll(".flag")].map(() => at + 1)));
  await until(() => flags(one.page), (seen) => seen.join() === "1,7");
  await until(() => flags(tab), (seen) => seen.join() === "2,7");
  await until(() => flags(two.page), (seen) => seen.join() === "1,2");

  // Somebody else writes in front of the cursor, which stays at its letter.
  await line(tab, 2).click();
  await tab.keyboard.press("Control+Home");
  await tab.keyboard.type(">>");
  await until(() => line(one.page, 2).inputValue(), (value) => value.startsWith(">>One: "));
  await one.page.keyboard.type("I");
  await agree(all, lines, (seen) => seen[1].startsWith(">>One: IEach"));
  // A line that moves keeps who writes in it.
  await line(two.page, 2).focus();
  await two.page.keyboard.press("Alt+ArrowDown");
  await agree(all, lines, (seen) => seen[2].startsWith(">>One: I"));
  await one.page.keyboard.type("J");
  await agree(all, lines, (seen) => seen[2].startsWith(">>One: IJEach"));
  await two.close();
  await until(() => flags(one.page), (seen) => seen.length === 1);
  assert.deepEqual(one.errors, []);
  assert.deepEqual(two.errors, []);
  await one.close();
});

test("map: tabs see each other with names, colours, places and links, and who has gone", async (house) => {
  const program = await demos(house);
  const one = await open(program, "topology");
  const tab = await one.more();
  const two = await open(program, "topology");
  const all = [one.page, tab, two.page];
  await agree(all, map, ({ devices }) => devices.length === 4);
  for (const [page, name] of [[one.page, "Kitchen"], [tab, "Cellar"], [two.page, "Attic"]]) {
    await page.getByRole("textbox", { name: "Name of this tab" }).fill(name);
    await page.keyboard.press("Enter");
  }
  await agree(all, names, (seen) => seen.join() === "Attic,Cellar,Gateway,Kitchen");
  await two.page.getByRole("radio", { name: "purple" }).check();
  await until(() => device(one.page, "Attic").getAttribute("class"), (seen) => seen.includes("tone-6"));

  const begin = await device(one.page, "Attic").boundingBox();
  await one.page.mouse.move(begin.x + 60, begin.y + 10);
  await one.page.mouse.down();
  const area = await one.page.locator("#map").boundingBox();
  await one.page.mouse.move(area.x + 200, area.y + 60, { steps: 5 });
  await one.page.mouse.up();
  // All maps are of one size, so it is at the same pixels in all. It was held 60 and 10 pixels from its corner.
  const isMoved = ({ devices }) => {
    const [x, y] = devices.find(([, name]) => name === "Attic")[2].match(/[\d.]+/g).map(Number);
    return Math.abs(x - 202) < 4 && Math.abs(y - 72) < 4;
  };
  await agree(all, map, isMoved);

  await device(tab, "Cellar").click();
  await device(tab, "Attic").click();
  await tab.getByRole("button", { name: "Link Kitchen" }).click();
  await tab.getByRole("button", { name: "Link Kitchen to this: Gateway" }).click();
  await agree(all, map, ({ links }) => links.length === 2);

  // It goes, and comes back as the one that it was.
  await reload(two.page);
  await online(two.page);
  await agree(all, map, ({ devices, links }) => devices.length === 4 && links.length === 2);
  await until(() => one.page.locator(".device.away").count(), (count) => count === 0);
  assert.equal(await two.page.getByRole("textbox", { name: "Name of this tab" }).inputValue(), "Attic");
  await two.close();
  await device(one.page, "Attic").and(one.page.locator(".away")).waitFor();
  await one.page.getByRole("button", { name: "Take Attic off the map" }).click();
  await agree([one.page, tab], map, ({ devices, links }) => devices.length === 3 && links.length === 1);
  assert.deepEqual(two.errors, []);
  assert.deepEqual(one.errors, []);
  await one.close();
});

test("people of all demos see each other, and a copy of a tab is somebody else", async (house) => {
  const program = await demos(house);
  const one = await open(program, "topology");
  const people = (page) => page.locator("#people .person").allTextContents();
  const tab = await one.more("markdown");
  await until(() => people(one.page), (seen) => seen.length === 2 && seen[1].endsWith(", at the text"));
  const [popup] = await Promise.all([one.page.waitForEvent("popup"), one.page.evaluate(() => void open("kanban.html"))]);
  await online(popup);
  await until(() => people(popup), (seen) => seen.length === 3);
  await until(() => people(one.page), (seen) => seen.length === 3);
  await popup.close();
  await tab.close();
  await until(() => people(one.page), (seen) => seen.length === 1);
  assert.deepEqual(one.errors, []);
  await one.close();
});
