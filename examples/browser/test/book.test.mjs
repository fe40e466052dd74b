// The two programs of the page "From the browser" of the book, word for word but for the port of the gateway.
import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "vite";
import { root, serve, shows, startBrowser, startSystem, stopAll, temporary } from "./system.mjs";

const MAIN = `import { createRoot } from "react-dom/client"; import App from "./app"; createRoot(document.getElementById("root")!).render(<App />);`;
// Browsers ask for an icon, and it is missing.
const ICON = `<link rel="icon" href="data:," />`;
const HTML = `<!doctype html>${ICON}<div id="root"></div><script type="module" src="./main.tsx"></script>`;

// Within this folder, so that imports find `node_modules`.
const sources = join(root, "book-page");
let host;
let browser;
let text;

before(async () => {
  host = new URL(await startSystem()).host;
  browser = await startBrowser();
  text = (await readFile(join(root, "../../docs/start/browser.md"), "utf8")).replaceAll("localhost:8080", host);
});

after(async () => {
  await rm(sources, { recursive: true, force: true });
  await stopAll();
});

const block = (kind) => new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, "ms").exec(text)[1];

test("the smallest page: both tabs have the number, and orders", async () => {
  const folder = await temporary();
  await writeFile(join(folder, "index.html"), block("html").replace("<title>", `${ICON}<title>`));
  const url = await serve(folder);
  const tabs = [await browser.open(url), await browser.open(url)];
  for (const tab of tabs) await tab.click("button");
  for (const tab of tabs) await shows(tab, "button", "Likes: 2");
  for (const tab of tabs) await tab.waitForSelector("li");
  for (const tab of tabs) assert.match(await tab.textContent("li"), /^\d+ [a-z]+$/);
  for (const tab of tabs) await tab.close();
  assert.deepEqual(browser.errors, []);
});

test("the same with React: the number is still there, orders come, and the inventory answers", async () => {
  await mkdir(sources, { recursive: true });
  for (const [name, code] of [["app.tsx", block("tsx")], ["main.tsx", MAIN], ["index.html", HTML]]) await writeFile(join(sources, name), code);
  const outDir = await temporary();
  await build({ root: sources, logLevel: "error", build: { outDir, emptyOutDir: true } });
  const url = await serve(outDir);
  const tabs = [await browser.open(url), await browser.open(url)];
  await tabs[0].click("button >> text=Likes");
  for (const tab of tabs) {
    await shows(tab, "p", "Likes: 3 online, 0 to send");
    await tab.waitForSelector("li");
    await tab.click("text=Reserve a lamp");
    await tab.waitForSelector(`text={"outcome":"reserved"`);
  }
  assert.deepEqual(browser.errors, []);
});
