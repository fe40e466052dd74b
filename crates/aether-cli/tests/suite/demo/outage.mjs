// The program is killed: nothing is lost, also if a page is loaded again meanwhile. Writes that failed are shown.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { freePort, openPage } from "../page/house.mjs";
import { test } from "../page/stage.mjs";
import { addCard, agree, board, demos, kept, line, lines, map, names, offline, online, open, reconnect, reload, retitle, stored, until } from "./ground.mjs";

test("board: killed in the middle of 20 edits, a reload while it is gone, and everything is there again", async (house) => {
  const program = await demos(house);
  const one = await open(program, "kanban");
  await kept(one.page);
  const titles = Array.from({ length: 20 }, (_, at) => `card ${at}`);
  let killed;
  for (const [at, title] of titles.entries()) {
    await addCard(one.page, title);
    if (at === 7) killed = program.kill();
  }
  await killed;
  await offline(one.page);
  await one.page.locator("#banner", { hasText: /\d+ changes wait in this browser/ }).waitFor();
  await agree([one.page], board, ([todo]) => todo.slice(3).join() === titles.join());

  await reload(one.page);
  await offline(one.page);
  await agree([one.page], board, ([todo]) => todo.slice(3).join() === titles.join());
  await addCard(one.page, "after the reload");
  await agree([one.page], board, ([todo]) => todo.at(-1) === "after the reload");
  await stored(one.page);
  // Every demo opens.
  for (const name of ["Map", "Text"]) {
    await one.page.getByRole("link", { name, exact: true }).click();
    await one.page.getByRole("heading", { name, level: 1 }).waitFor();
    await offline(one.page);
  }
  await one.page.goto(program.url);
  await one.page.getByRole("heading", { name: "Demos" }).waitFor();
  await one.page.getByRole("link", { name: "Board" }).first().click();
  await offline(one.page);

  const again = await demos(house, program);
  await reconnect(one.page);
  const two = await open(again, "kanban");
  await agree([one.page, two.page], board, ([todo]) => todo.slice(3).join() === [...titles, "after the reload"].join());
  // And once more from the disk alone.
  await again.kill();
  const third = await demos(house, again);
  const three = await open(third, "kanban");
  await agree([three.page], board, ([todo]) => todo.slice(3).join() === [...titles, "after the reload"].join());
  assert.deepEqual([...one.errors, ...two.errors, ...three.errors], []);
  await Promise.all([one.close(), two.close(), three.close()]);
});

test("text and map: what was changed without the gateway is there after a reload, and at others when it is back", async (house) => {
  const program = await demos(house);
  const one = await open(program, "markdown");
  const tab = await one.more("topology");
  await tab.getByRole("textbox", { name: "Name of this tab" }).fill("Attic");
  await tab.keyboard.press("Enter");
  await kept(one.page);
  await agree([tab], names, (seen) => seen.length === 3 && seen[0] === "Attic");
  const first = await agree([one.page], lines, (seen) => seen.length === 6);
  await program.kill();
  await Promise.all([one.page, tab].map(offline));
  await line(one.page, 3).click();
  for (const word of ["## Alone", "but not lost", "[a](javascript:b) [c](https://d.example/)"]) {
    await one.page.keyboard.type(word);
    await one.page.keyboard.press("Enter");
  }
  await one.page.keyboard.press("Alt+ArrowUp");
  const expected = [...first.slice(0, 2), "## Alone", "but not lost", "", "[a](javascript:b) [c](https://d.example/)", ...first.slice(3)];
  await agree([one.page], lines, (seen) => JSON.stringify(seen) === JSON.stringify(expected));
  await tab.locator(".device.own").press("ArrowRight");
  await tab.getByRole("button", { name: "Link Attic" }).click();
  await tab.getByRole("button", { name: "Link Attic to this: Gateway" }).click();
  const { devices } = await agree([tab], map, ({ links }) => links.length === 1);
  await Promise.all([reload(one.page), reload(tab)]);
  await Promise.all([one.page, tab].map(offline));
  await agree([one.page], lines, (seen) => JSON.stringify(seen) === JSON.stringify(expected));
  await one.page.getByRole("heading", { name: "Alone" }).waitFor();
  await agree([tab], map, (seen) => seen.links.length === 1 && JSON.stringify(seen.devices) === JSON.stringify(devices));

  const again = await demos(house, program);
  await reconnect(one.page, tab);
  const two = await open(again, "markdown");
  await agree([one.page, two.page], lines, (seen) => JSON.stringify(seen) === JSON.stringify(expected));
  const more = await two.more("topology");
  await agree([tab], map, (seen) => seen.links.join() === (seen.links[0].startsWith("Attic") ? "Attic – Gateway" : "Gateway – Attic") && seen.devices.length === 5);
  await agree([more], names, (seen) => seen.includes("Attic"));
  assert.deepEqual([...one.errors, ...two.errors], []);
  await Promise.all([one.close(), two.close()]);
});

test("a write that was refused, and one that lost against another one, are shown", async (house) => {
  const program = await demos(house);
  const [one, two] = [await open(program, "kanban"), await open(program, "kanban")];
  await retitle(one.page, "card", "Open the board", "x".repeat(40_000));
  await one.page.locator("#notices .bad", { hasText: "Not saved: the title of the card “Open the board”. The value has 40002 bytes; 32768 are allowed." }).waitFor();
  await agree([one.page, two.page], board, (seen) => seen[2].join() === "Done,Open the board");
  await one.page.getByRole("button", { name: "Dismiss" }).click();
  await until(() => one.page.locator("#notices li").count(), (count) => count === 0);

  await program.kill();
  await Promise.all([one.page, two.page].map(offline));
  await retitle(one.page, "card", "Open the board", "of one");
  await retitle(two.page, "card", "Open the board", "of two");
  await demos(house, program);
  await reconnect(one.page, two.page);
  await agree([one.page, two.page], board, (seen) => seen[2].join() === "Done,of two");
  await one.page.locator("#notices .warn", { hasText: "Somebody else changed the title of the card “of two” at the same time. Yours was “of one”; now it is “of two”." }).waitFor();
  assert.equal(await two.page.locator("#notices li").count(), 0);
  assert.deepEqual([...one.errors, ...two.errors], []);
  await Promise.all([one.close(), two.close()]);
});

test("a page asks before it is left while its writes are not in the storage of the browser", async (house) => {
  const program = await demos(house);
  const one = await open(program, "kanban");
  await kept(one.page);
  await program.kill();
  await offline(one.page);
  let asked = 0;
  one.page.on("dialog", (dialog) => {
    asked += 1;
    void dialog.dismiss();
  });
  // A storage that takes its time: a transaction that lasts until the page says so.
  await one.page.evaluate(async () => {
    const [{ name }] = await indexedDB.databases();
    const opening = indexedDB.open(name);
    await new Promise((done) => (opening.onsuccess = done));
    const store = opening.result.transaction("outbox", "readwrite").objectStore("outbox");
    const hold = () => {
      if (!globalThis.released) store.count().onsuccess = hold;
    };
    hold();
  });
  await addCard(one.page, "in the last moment");
  await agree([one.page], board, ([todo]) => todo.at(-1) === "in the last moment");
  await one.page.evaluate(() => void setTimeout(() => location.reload()));
  await until(() => asked, (times) => times === 1);
  await one.page.evaluate(() => (globalThis.released = true));
  await reload(one.page);
  await offline(one.page);
  await agree([one.page], board, ([todo]) => todo.at(-1) === "in the last moment");
  assert.equal(asked, 1);
  assert.deepEqual(one.errors, []);
  await one.close();
});

test("a gateway that takes six seconds for a file has its pages kept, too", async (house) => {
  const program = await demos(house);
  const slow = createServer((asked, answer) => {
    const pass = () => request(`http://127.0.0.1:${program.port}${asked.url}`, (from) => {
      answer.writeHead(from.statusCode, from.headers);
      from.pipe(answer);
    }).end();
    setTimeout(pass, asked.url.endsWith("markdown-parse.js") ? 6_000 : 0);
  });
  const port = await freePort();
  // Also where the test fails, it does not outlive the others.
  await once(slow.listen(port, "127.0.0.1").unref(), "listening");
  const { page, close } = await openPage(`http://127.0.0.1:${port}/demos/kanban.html`);
  await kept(page);
  await close();
});

test("files of the gateway come before those that were kept, and take their place", async (house) => {
  const program = await demos(house);
  const one = await open(program, "kanban");
  await kept(one.page);
  const old = () => one.page.evaluate(async () => {
    const cache = await caches.open("aether-demos");
    for (const name of ["kanban.js", "markdown.js"]) {
      const headers = { "content-type": "text/javascript" };
      await cache.put(new URL(name, location.href), new Response("document.title = 'old'", { headers }));
    }
  });
  const isOld = (name) => one.page.evaluate(async (file) => (await (await (await caches.open("aether-demos")).match(new URL(file, location.href))).text()).includes("'old'"), name);
  await old();
  await reload(one.page);
  await online(one.page);
  // What was kept may only come where the gateway takes longer than the four seconds for which it is waited.
  const [title, took] = await one.page.evaluate(() => [document.title, performance.getEntriesByName(new URL("kanban.js", location.href).href)[0].duration]);
  assert.ok(title === "Board – Aether demos" || took >= 4_000, `${title} after ${took} ms`);
  // Also of a page that was not opened.
  for (const name of ["kanban.js", "markdown.js"]) await until(() => isOld(name), (answer) => !answer);
  assert.deepEqual(one.errors, []);
  await one.close();
});
