// A tab of a browser that a test drives: it runs each line that it reads in the page, and prints what the page logs.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [gateway, field] = process.argv.slice(2);
const require = createRequire(`${process.env.AETHER_NODE_MODULES}/`);
const { chromium } = require(`${process.env.AETHER_NODE_MODULES}/playwright-core`);
const browser = await chromium.launch({ executablePath: process.env.AETHER_CHROMIUM, args: ["--no-sandbox"] });
const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
const body = `<!doctype html><script src="${gateway}/client/aether-client.min.js"></script>`;
const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(body));
await new Promise((listens) => server.listen(0, "127.0.0.1", listens));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.evaluate((url) => {
  globalThis.field = AetherClient.connect(url);
  field.on("*", ({ key, value }) => console.log(`changed ${key} ${JSON.stringify(value)}`));
}, `${gateway.replace("http", "ws")}/field/${field}/ws`);
await page.evaluate(() => field.ready());
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) await page.evaluate(line);
await browser.close();
server.close();
