// Gateways, pages and browsers for the tests. Nothing here sleeps: each step waits for what it needs, and fails after a bound.
//
// Each test file that starts something calls `stopAll` at its end (`after(stopAll)`).
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect as connectTcp, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, extname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

/** The command line of the bus, with `aether gateway`. */
/** Tests in full length: AETHER_LONG=1. Otherwise those that take minutes are bounded. */
export const LONG = process.env.AETHER_LONG === "1";
export const AETHER = process.env.AETHER_PROGRAM ?? "aether";
/** A bound for steps of a browser that never fail, on a slow machine as well. */
const MS = 120_000;
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const cleanups = [];
/** Those that run. A test runner that is stopped, or whose output nobody reads, does not come to `stopAll`. */
const children = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

/** Runs at the end of the tests, in reverse order. */
export function onStop(cleanup) {
  cleanups.push(cleanup);
}

/** Stops everything that was started here. */
export async function stopAll() {
  let failed;
  for (const cleanup of cleanups.splice(0).reverse()) {
    await Promise.resolve(cleanup()).catch((error) => (failed ??= error));
  }
  if (failed) throw failed;
}

/** Rejects if the promise takes longer. For bounds, never to give something time. */
export async function within(ms, promise, what = "the test") {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Resolves when `look` returns something truthy, with that. It looks again after each call of `nudge`, the function that
 * `subscribe` gets; so it needs no time.
 */
export function until(subscribe, look, { ms = 60_000, what = "the condition" } = {}) {
  let off;
  const done = new Promise((resolve, reject) => {
    const nudge = () => {
      try {
        const found = look();
        if (found) resolve(found);
      } catch (error) {
        reject(error);
      }
    };
    off = subscribe(nudge);
    nudge();
  });
  return within(ms, done, what).finally(() => off?.());
}

/** A folder that is removed at the end. */
export async function folder() {
  const path = await mkdtemp(join(tmpdir(), "aether-js-"));
  onStop(() => rm(path, { recursive: true, force: true }));
  return path;
}

/**
 * A free port on 127.0.0.1. The system gives none of these to others, so it stays free while a program is started again. Other test
 * files do not take it either: this process holds the same port of 127.0.0.2 until it ends.
 */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(20_000 * Math.random());
    const held = await listening(port, "127.0.0.2");
    if (!held) continue;
    const server = await listening(port, "127.0.0.1");
    if (!server) {
      held.close();
      continue;
    }
    held.unref();
    await new Promise((closed) => server.close(closed));
    return port;
  }
}

/** A server that listens there, if there is this address; `undefined` if another one does. */
function listening(port, host) {
  const server = createTcpServer();
  return new Promise((done) => {
    server.once("error", ({ code }) => done(code === "EADDRINUSE" ? undefined : server));
    server.listen(port, host, () => done(server));
  });
}

/** A process whose output is read line by line. It is killed at the end. */
export class Process {
  #child;
  #lines = [];
  #waiting = new Set();
  /** The exit code, or the signal. */
  exited;

  constructor(command, args, { env = {}, cwd, input } = {}) {
    this.command = [command, ...args].join(" ");
    // No setting of this machine: `AETHER_...` are options of the program.
    const clean = Object.entries(process.env).filter(([name]) => !name.startsWith("AETHER_"));
    const child = spawn(command, args, { env: { ...Object.fromEntries(clean), ...env }, cwd, stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    children.add(child);
    child.stdin.on("error", () => {});
    if (input !== undefined) child.stdin.end(input);
    for (const stream of [child.stdout, child.stderr]) {
      let rest = "";
      stream.setEncoding("utf8").on("data", (text) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        for (const line of lines) this.#line(line);
      });
    }
    this.exited = new Promise((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("close", (code, signal) => resolve(code ?? signal));
    });
    this.exited.then((end) => {
      children.delete(child);
      for (const { reject } of this.#waiting) reject(new Error(`${this.command} ended (${end}):\n${this.output}`));
    });
    onStop(() => this.kill());
  }

  get pid() {
    return this.#child.pid;
  }

  get stdin() {
    return this.#child.stdin;
  }

  /** The last lines of both outputs. */
  get output() {
    return this.#lines.slice(-200).join("\n");
  }

  #line(line) {
    this.#lines.push(line);
    if (this.#lines.length > 10_000) this.#lines.shift();
    for (const waiting of this.#waiting) waiting.look(line);
  }

  /** The match of the first line, also an earlier one, that the pattern is in. */
  line(pattern, ms = 60_000) {
    for (const line of this.#lines) {
      const found = pattern.exec(line);
      if (found) return Promise.resolve(found);
    }
    let waiting;
    const found = new Promise((resolve, reject) => {
      const look = (line) => {
        const found = pattern.exec(line);
        if (found) resolve(found);
      };
      waiting = { look, reject };
      this.#waiting.add(waiting);
    });
    return within(ms, found, `${this.command}: a line with ${pattern}`).finally(() => this.#waiting.delete(waiting));
  }

  /** Sends a signal; does nothing after the end. */
  signal(signal) {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal);
  }

  async kill(signal = "SIGKILL") {
    if (this.pid === undefined) return;
    // A stopped process takes no other signal than SIGKILL.
    if (signal !== "SIGKILL") this.signal("SIGCONT");
    this.signal(signal);
    await within(60_000, this.exited, `the end of ${this.command}`);
  }
}

/**
 * A gateway as a process of its own.
 *
 * Options: `fields` ({name: file or true for memory}, {home: true} by default), `port`, `args`, `env`, `medium`, `tokens` (the
 * list of rights, written to a file), `limits` ({name: value}).
 */
export class Gateway {
  static async start(options = {}) {
    const gateway = new Gateway(options);
    await gateway.start();
    return gateway;
  }

  constructor(options) {
    this.options = { fields: { home: true }, origin: "*", ...options };
    this.port = options.port ?? 0;
  }

  /** Starts it (again), on the port and with the files that it had. */
  async start() {
    const { fields, args = [], env, medium, limits = {}, origin } = this.options;
    this.port ||= await freePort();
    const all = ["gateway", "--listen", `127.0.0.1:${this.port}`];
    for (const [name, file] of Object.entries(fields)) all.push("--field", file === true ? name : `${name}=${file}`);
    for (const [name, value] of Object.entries(limits)) all.push("--field-limit", `${name}=${value}`);
    if (origin) all.push("--field-origin", origin);
    if (medium) all.push("--medium", medium);
    all.push(...args);
    // In a folder without a `config`, which would be read.
    this.process = new Process(AETHER, all, { env, cwd: tmpdir() });
    const [, host, port] = await this.process.line(/gateway: http:\/\/([^:]+):(\d+)\//);
    this.host = host;
    this.port = Number(port);
  }

  get http() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The address of a field. */
  field(name = "home") {
    return `ws://127.0.0.1:${this.port}/field/${name}/ws`;
  }

  /** The address of the bus. */
  get bus() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  get pid() {
    return this.process.pid;
  }

  /** In good order: its files are written. */
  stop() {
    return this.process.kill("SIGTERM");
  }

  /** As a crash ends it (kill -9). */
  kill() {
    return this.process.kill("SIGKILL");
  }

  /** It neither reads nor writes, and its connections stay open (SIGSTOP). */
  pause() {
    this.process.signal("SIGSTOP");
  }

  resume() {
    this.process.signal("SIGCONT");
  }

  async restart() {
    await this.kill();
    await this.start();
  }
}

/** Runs a command of the bus to its end. Returns its exit code and both outputs. */
export async function aether(args, { ms = 60_000, ...options } = {}) {
  const running = new Process(AETHER, args, { cwd: tmpdir(), ...options });
  const code = await within(ms, running.exited, running.command);
  return { code, output: running.output };
}

/** A port in front of a server, whose connections can be cut, or held so that nothing gets through. */
export class Proxy {
  #connections = new Set();
  #held = false;
  #refuses = false;
  /** The number of connections that were opened so far. */
  opened = 0;
  /** Called with each connection that is refused. */
  onRefused = () => {};

  static async start(port) {
    const proxy = new Proxy();
    proxy.target = port;
    proxy.server = createTcpServer((from) => proxy.#connect(from));
    await new Promise((resolve, reject) => proxy.server.once("error", reject).listen(0, "127.0.0.1", resolve));
    onStop(() => new Promise((resolve) => (proxy.server.close(resolve), proxy.cut())));
    return proxy;
  }

  get port() {
    return this.server.address().port;
  }

  get open() {
    return this.#connections.size;
  }

  #connect(from) {
    if (this.#refuses) {
      from.destroy();
      return this.onRefused();
    }
    this.opened += 1;
    const to = connectTcp(this.target, "127.0.0.1");
    const connection = { from, to };
    this.#connections.add(connection);
    const end = () => {
      this.#connections.delete(connection);
      from.destroy();
      to.destroy();
    };
    for (const socket of [from, to]) socket.on("error", end).on("close", end).setNoDelay();
    from.pipe(to);
    to.pipe(from);
    if (this.#held) this.hold(this.#held);
  }

  /** Ends all connections without a goodbye. */
  cut() {
    for (const { from, to } of this.#connections) {
      from.resetAndDestroy();
      to.resetAndDestroy();
    }
  }

  /** Ends all connections and takes no new ones until `restore`. */
  refuse() {
    this.#refuses = true;
    this.cut();
  }

  /** Lets nothing through in either direction, or nothing `"back"` to the clients; the connections stay open. */
  hold(direction = "both") {
    this.#held = direction;
    for (const { from, to } of this.#connections) {
      if (direction === "both") from.unpipe();
      to.unpipe();
    }
  }

  restore() {
    this.#held = this.#refuses = false;
    for (const { from, to } of this.#connections) {
      // A pipe that is still there would be a second one, which sends everything twice.
      from.unpipe();
      to.unpipe();
      from.pipe(to);
      to.pipe(from);
    }
  }
}

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
};

/**
 * Serves `dist/`, the folder `test/pages/`, and the given pages ({"/name.html": text, or a function that returns it}).
 * Without a page, `/` is an empty one that has `window.aether`, the client.
 */
export async function servePages(pages = {}) {
  const folders = [join(root, "dist"), join(root, "test", "pages")];
  const empty = `<!doctype html><title>test</title><script type="module">
    import * as aether from "/index.js"; window.aether = aether; window.dispatchEvent(new Event("aether"));</script>`;
  const all = { "/": empty, ...pages };
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://test").pathname);
    if (Object.hasOwn(all, path)) {
      const text = typeof all[path] === "function" ? await all[path](request) : all[path];
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? TYPES[".html"], "cache-control": "no-store" });
      return response.end(text);
    }
    for (const folder of folders) {
      const file = resolve(folder, `.${path}`);
      if (!file.startsWith(folder + sep) || !existsSync(file)) continue;
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "cache-control": "no-store" });
      return response.end(await readFile(file));
    }
    response.writeHead(404).end();
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const stop = () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  onStop(stop);
  return { url: `http://127.0.0.1:${server.address().port}`, port: server.address().port, stop };
}

/** Chromium. `profile()` is one user of one browser: its pages share their storage, and no other profile's. */
export class Browser {
  static async start() {
    const executablePath = process.env.AETHER_CHROMIUM ?? "/usr/bin/chromium";
    const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
    const browser = await chromium.launch({ executablePath, args, timeout: MS });
    onStop(() => browser.close());
    return new Browser(browser);
  }

  constructor(browser) {
    this.browser = browser;
  }

  async profile(options = {}) {
    const context = await this.browser.newContext(options);
    context.setDefaultTimeout(MS);
    onStop(() => context.close().catch(() => {}));
    return new Profile(context);
  }

  close() {
    return this.browser.close();
  }
}

export class Profile {
  constructor(context) {
    this.context = context;
  }

  /** For tests that count connections: a tab that is only slow keeps the lead, from the next page on. */
  keepsLeaders() {
    return this.context.addInitScript(() => {
      // Blank pages have none.
      if (typeof LockManager === "undefined") return;
      const { request } = LockManager.prototype;
      LockManager.prototype.request = function (name, options, ...callback) {
        return request.call(this, name, options.steal ? {} : options, ...callback);
      };
    });
  }

  /** A tab at this address, when the page has loaded. Errors of the page are in `tab.errors`. */
  async tab(url) {
    const page = await this.context.newPage();
    const tab = new Tab(page, await this.context.newCDPSession(page));
    if (url) await tab.open(url);
    return tab;
  }

  close() {
    return this.context.close();
  }
}

export class Tab {
  errors = [];

  constructor(page, cdp) {
    this.page = page;
    this.cdp = cdp;
    page.on("pageerror", (error) => this.errors.push(error));
    page.on("console", (message) => {
      if (message.type() === "error" && /hydrat|Warning:|unhandled/i.test(message.text())) this.errors.push(new Error(message.text()));
    });
  }

  open(url) {
    return this.page.goto(url, { waitUntil: "load" });
  }

  /** Runs a function in the page. `window.aether` is there on the page `/`. */
  run(code, argument) {
    return this.page.evaluate(code, argument);
  }

  /** Resolves when the function returns something truthy in the page; it is called with each frame. */
  until(code, argument, ms = 60_000) {
    return this.page.waitForFunction(code, argument, { timeout: ms }).then((handle) => handle.jsonValue());
  }

  /**
   * `navigator.onLine` and its events; new connections and requests fail. Chromium leaves WebSockets open that are open:
   * cut these with a {@link Proxy}.
   */
  async offline(is = true) {
    await this.cdp.send("Network.enable");
    await this.cdp.send("Network.emulateNetworkConditions", { offline: is, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  }

  /** Crashes the process of the tab: no event of the page runs. */
  async crash() {
    const crashed = new Promise((resolve) => this.page.once("crash", resolve));
    // The answer never comes: the one who would give it is gone.
    this.cdp.send("Page.crash").catch(() => {});
    await within(60_000, crashed, "the crash of the tab");
  }

  close() {
    return this.page.close();
  }
}
