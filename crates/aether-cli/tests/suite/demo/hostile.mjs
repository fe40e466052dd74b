// What others write is shown as text, and runs nothing.

import assert from "node:assert/strict";
import { test } from "../page/stage.mjs";
import { agree, board, demos, line, lines, online, open, until } from "./ground.mjs";

const RUN = "globalThis.hacked=1";
const STRINGS = [
  `<script>${RUN}</script>`, `<img src=x onerror=${RUN}>`, `<svg onload=${RUN}>`, `<svg/onload=${RUN}//`, `<iframe srcdoc="<script>parent.hacked=1</script>">`,
  `<iframe src=javascript:parent.hacked=1>`, `<body onload=${RUN}>`, `<details open ontoggle=${RUN}>x`, `<input autofocus onfocus=${RUN}>`, `<video><source onerror=${RUN}>`,
  `"><script>${RUN}</script>`, `'><img src=x onerror=${RUN}>`, `</textarea><script>${RUN}</script>`, `</title><script>${RUN}</script>`, `<!--><script>${RUN}</script>-->`,
  `<math><mtext><table><mglyph><style><img src=x onerror=${RUN}>`, `<scr<script>ipt>${RUN}</script>`, `&lt;script&gt;${RUN}&lt;/script&gt;`, `<a href="javascript:${RUN}">x</a>`, `<style>@import 'x';*{display:none}</style>`,
  `[x](javascript:${RUN})`, `[x](JaVaScRiPt:${RUN})`, `[x](java\tscript:${RUN})`, `[x](&#106;avascript:${RUN})`, `[x](javascript&colon;${RUN})`,
  `[x](&#x6A;&#x61;vascript&#0000058;${RUN})`, `[x](\u0001javascript:${RUN})`, `[x](data:text/html,<script>${RUN}</script>)`, `[x](vbscript:${RUN})`, `[x](javascript%3A${RUN})`,
  `[x](" onmouseover="${RUN})`, `[<img src=x onerror=${RUN}>](https://a.example/)`, `\`<img src=x onerror=${RUN}>\``, `# <img src=x onerror=${RUN}>`, `- **<svg onload=${RUN}>**`,
  `![x](javascript:${RUN})`, `<javascript:${RUN}>`, `[x]( javascript:${RUN} "title")`,
];

/** What is in a page and should not be: elements that run or load something, attributes that do, addresses that are not allowed. */
const found = (page) => page.evaluate(() => [
  ...[...document.querySelectorAll("main :is(script, img, iframe, object, embed, style, video, math, details), main svg svg")].map(({ outerHTML }) => outerHTML),
  ...[...document.querySelectorAll("main *")].flatMap(({ attributes }) => [...attributes]).filter(({ name }) => /^on|^style$|^srcdoc$/.test(name)).map(({ name, value }) => `${name}=${value}`),
  ...[...document.querySelectorAll("main a")].filter(({ protocol }) => !["http:", "https:", "mailto:"].includes(protocol)).map(({ outerHTML }) => outerHTML),
  ...(globalThis.hacked ? ["it ran"] : []),
]);

test(`${STRINGS.length} hostile texts in lines, cards, columns, names and cursors run nothing`, async (house) => {
  const program = await demos(house);
  // Without the policy of the gateway, which would stop many of them as well.
  const one = await open(program, "markdown", { bypassCSP: true });
  const two = await open(program, "markdown", { bypassCSP: true });
  await line(one.page, 1).click();
  await one.page.keyboard.press("Control+a");
  await one.page.evaluate((texts) => {
    const data = new DataTransfer();
    data.setData("text/plain", texts.join("\n"));
    document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  }, STRINGS);
  await agree([one.page, two.page], lines, (seen) => JSON.stringify(seen.slice(0, STRINGS.length)) === JSON.stringify(STRINGS));
  await two.page.locator("#preview .dropped").nth(10).waitFor();
  for (const { page } of [one, two]) {
    // Whatever is there is hovered and clicked.
    for (const link of await page.locator("#preview a").all()) await link.hover();
    assert.deepEqual(await found(page), []);
    assert.equal(await page.locator("#preview .dropped").count(), 12);
  }

  // By a program of its own, which writes what it likes.
  await one.page.evaluate(async (texts) => {
    const field = AetherClient.connect("/field/demo/ws", { persist: "memory", tabs: false });
    await field.ready();
    texts.forEach((text, at) => {
      field.set(`kanban/card/x${at}/title`, text);
      field.set(`kanban/card/x${at}/column`, at % 2 ? "todo" : text);
      field.set(`kanban/card/x${at}/priority`, text);
      field.set(`kanban/column/x${at}/title`, text);
      field.set(`topology/node/x${at}/name`, text);
      field.set(`topology/node/x${at}/tone`, text);
      field.set(`topology/link/x${at}~x${at + 1}`, text);
    });
    field.presence.set({ id: "x", demo: "markdown", name: texts[1], tone: texts[1], line: "welcome-1", at: 3 });
    await field.synced();
    globalThis.other = field;
  }, STRINGS);
  await two.page.locator(".flag", { hasText: "<img" }).waitFor();
  assert.deepEqual(await found(two.page), []);
  for (const name of ["kanban", "topology"]) {
    await two.page.goto(`${program.url}${name}.html`);
    await online(two.page);
    if (name === "kanban") await until(() => board(two.page), (seen) => seen.length === STRINGS.length + 4);
    else await until(() => two.page.locator("#devices .row").count(), (count) => count >= STRINGS.length + 2);
    assert.deepEqual(await found(two.page), [], name);
  }
  const ran = await Promise.all([one, two].map(({ page }) => page.evaluate(() => globalThis.hacked)));
  assert.deepEqual(ran, [undefined, undefined]);
  assert.deepEqual([...one.errors, ...two.errors], []);
  await Promise.all([one.close(), two.close()]);
});
