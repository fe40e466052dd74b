// Real processes for the tests of the pages: a NATS server, gateways and sample services, and a browser.

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** For what takes milliseconds on an idle machine and may take seconds on a busy one. */
export const PATIENCE = 180_000;

export function needed(name) {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}; cargo nextest run -p aether-bus-cli --test page does`);
  return value;
}

/** From the folder where the packages are installed, which is not beside the tests. */
export const packages = createRequire(join(needed("AETHER_NODE_MODULES"), "of-the-tests.cjs"));
const { chromium } = packages("playwright-core");

const reserved = [];

/**
 * A free port, which stays free while a killed program is started again: the system gives none of these to others. The port of the
 * same number of ::1 is taken, by which other tests know, of this run and those in Rust.
 */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(22_000 * Math.random());
    const [server, own] = [createServer(), createSocket("udp6")];
    const isFree = await new Promise((done) => {
      server.once("error", () => done(false)).listen(port, "127.0.0.1", () => done(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    const isTaken = await new Promise((done) => {
      // Without IPv6 nobody can be asked.
      own.once("error", ({ code }) => done(code === "EADDRINUSE")).bind(port, "::1", () => done(false));
    });
    if (!isTaken) {
      reserved.push(own.unref());
      return port;
    }
    own.close();
  }
}

/** A process that is killed at the end of a test. */
class Running {
  constructor(program, args, env = {}) {
    this.child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    this.said = "";
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.said = (this.said + text).slice(-20_000)));
    }
    // Not "exit", after which some of what it said may still be on its way.
    this.ended = once(this.child, "close");
  }

  /** Waits for a line that matches. */
  async says(pattern, stream = "stdout") {
    const lines = createInterface({ input: this.child[stream] });
    const found = new Promise((resolve, reject) => {
      lines.on("line", (line) => pattern.test(line) && resolve(line.match(pattern)));
      this.ended.then(() => reject(new Error(`it ended: ${this.said}`)));
      setTimeout(() => reject(new Error(`never said ${pattern}: ${this.said}`)), PATIENCE).unref();
    });
    const line = await found;
    lines.close();
    this.child[stream].resume();
    return line;
  }

  async kill(signal = "SIGKILL") {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill(signal);
      await this.ended;
    }
  }
}

/** What a test starts; everything ends with it. */
export class House {
  #all = [];
  /** Variables of the processes that are started from now on. */
  env = {};

  async server(port) {
    const taken = port ?? (await freePort());
    const server = this.#start(needed("AETHER_NATS_SERVER"), ["-a", "127.0.0.1", "-p", String(taken)]);
    await server.says(/Server is ready/, "stderr");
    server.port = taken;
    server.url = `nats://127.0.0.1:${taken}`;
    return server;
  }

  aether(...args) {
    return this.#start(needed("AETHER_PROGRAM"), args);
  }

  async gateway(medium, port, ...args) {
    const listen = `127.0.0.1:${port ?? (await freePort())}`;
    const gateway = this.aether("gateway", "--medium", medium, "--listen", listen, ...args);
    await gateway.says(/^gateway: /);
    gateway.port = Number(listen.split(":")[1]);
    gateway.url = `http://${listen}`;
    return gateway;
  }

  /** Runs a command of the program to its end. */
  async run(...args) {
    const running = this.aether(...args);
    const [code] = await running.ended;
    if (code !== 0) throw new Error(`aether ${args.join(" ")}: ${running.said}`);
    return running.said;
  }

  #start(program, args) {
    const running = new Running(program, args, this.env);
    this.#all.unshift(running);
    return running;
  }

  async close() {
    await Promise.all(this.#all.map((running) => running.kill()));
  }
}

let browser;

export async function openBrowser() {
  // Its sandbox needs rights that containers do not have; it shows pages of our own.
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
  browser ??= chromium.launch({ executablePath: needed("AETHER_CHROMIUM"), args });
  return browser;
}

export async function closeBrowser() {
  await (await browser)?.close();
}

/**
 * A page whose errors are collected. `expected` are patterns of errors that belong to the test, such as lost connections. It moves
 * nothing that does not have to move, which costs less, unless a test is about that.
 */
export async function openPage(url, { expected = [], ...options } = {}) {
  const context = await (await openBrowser()).newContext({ viewport: { width: 1280, height: 860 }, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const errors = [];
  const note = (text) => expected.some((pattern) => pattern.test(text)) || errors.push(text);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && note(message.text()));
  page.on("pageerror", (error) => note(String(error)));
  await page.goto(url);
  return { page, errors, close: () => context.close() };
}
