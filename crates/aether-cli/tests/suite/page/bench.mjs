// What the pages and their gateway cost: `cargo xtask bench page`. Arguments are the parts, all without any.
//
// Browser, clients, server and gateway share this machine, so figures are worse than with clients elsewhere.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import { House, closeBrowser, freePort, openBrowser, openPage } from "./house.mjs";
import { Client } from "./socket.mjs";

const WAVES = 50_000;
const PAGES = ["overview", "spectrum", "waves", "map", "incidents", "services", "ledger", "letters", "queues", "durable"];
/** The channels of the spectrum whose frames are counted. */
const CHANNELS = 500;
const MANY = ["max_connections_total=5000", "max_connections_per_source=5000"].flatMap((limit) => ["--field-limit", limit]);
/** Of the clients that read, every so many-th looks at each wave; the others only at the frames. */
const LOOKS = 10;
const TICKS = 100;

const status = (process) => {
  const fields = readFileSync(`/proc/${process.child.pid}/stat`, "utf8").split(") ")[1].split(" ");
  const memory = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${process.child.pid}/status`, "utf8"));
  return { at: performance.now(), cpu: (Number(fields[11]) + Number(fields[12])) / TICKS, megabytes: Number(memory[1]) / 1024 };
};
const cores = (before, after) => ((after.cpu - before.cpu) / ((after.at - before.at) / 1000)).toFixed(2);
const read = async (gateway, path) => (await fetch(`${gateway.url}${path}`)).json();
const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const row = (...cells) => console.log(`| ${cells.join(" | ")} |`);

function emit(house, server, channel, rate, count = 1e9) {
  return house.aether("emit", channel, '{"n":1,"text":"abcdefgh"}', "--medium", server.url, "-n", String(count), "--rate", String(rate), "--shed");
}

/** Reads what the main thread of a page has done: its own time on a processor, not that of others who had it meanwhile. */
async function measured(devtools) {
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  return async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    return { ...Object.fromEntries(metrics.map(({ name, value }) => [name, value])), at: performance.now() / 1000 };
  };
}

/** The share of a time in which the main thread did something. */
const share = (what, a, b) => `${((100 * (b[what] - a[what])) / (b.at - a.at)).toFixed(0)} %`;

/** 50,000 waves a second with each page open. */
async function load(house) {
  const server = await house.server();
  const gateway = await house.gateway(server.url);
  house.aether("beta", "--medium", server.url);
  house.aether("alpha", "--medium", server.url, "--rate", "30");
  for (const at of [0, 1]) emit(house, server, `flood.${at}`, WAVES / 2);
  const { page, errors, close } = await openPage(gateway.url);
  await page.locator("#state.good").waitFor();
  const devtools = await page.context().newCDPSession(page);
  const measure = await measured(devtools);
  await pause(5000);
  console.log(`\n${WAVES} waves a second are emitted, a page is open in Chromium:\n`);
  row("page", "main thread busy", "of it scripts", "a click until drawn, worst of 9", "gateway, cores", "gateway, MB", "observed a second", "lost by all queues");
  row(..."--------".split(""));
  for (const name of PAGES) {
    await page.evaluate((hash) => (location.hash = hash), name);
    await pause(1500);
    const [a, one, seen] = [await measure(), status(gateway), await read(gateway, "/api/overview")];
    await pause(6000);
    const [b, two, later] = [await measure(), status(gateway), await read(gateway, "/api/overview")];
    const clicks = [];
    for (let at = 0; at < 9; at += 1) {
      clicks.push(await page.evaluate(async () => {
        const start = performance.now();
        document.querySelector("nav a[aria-current]").click();
        await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
        return performance.now() - start;
      }));
    }
    const observed = later.flow.waves - seen.flow.waves;
    const lost = later.losses.waves - seen.losses.waves;
    row(name, share("TaskDuration", a, b), share("ScriptDuration", a, b), `${Math.max(...clicks).toFixed(0)} ms`, cores(one, two), two.megabytes.toFixed(0),
      Math.round(observed / ((two.at - one.at) / 1000)), `${((100 * lost) / Math.max(1, lost + observed)).toFixed(1)} %`);
  }
  if (errors.length > 0) console.log(errors);
  await close();
}

/**
 * Frames a second of the spectrum with 500 channels: those that the scripts may draw, and those in which the browser shows the
 * picture elsewhere. Without a graphics processor the browser draws in software, on the processors that all else needs.
 */
async function frames(house) {
  const server = await house.server();
  const gateway = await house.gateway(server.url, undefined, "--set", `service.gateway.max_channels=${CHANNELS}`,
    "--field-limit", "messages_per_second=100000", "--field-limit", "messages_burst=100000");
  const client = await Client.open(gateway.port, () => {});
  let number = 0;
  const emitting = setInterval(() => {
    for (let at = 0; at < CHANNELS / 10; at += 1, number += 1) {
      client.send({ op: "emit", id: number, wave: { channel: `bench.channel.${number % CHANNELS}`, amplitude: 0.2 + (number % 7) / 10, json: number } });
    }
  }, 100);
  const { page, close } = await openPage(`${gateway.url}/#spectrum`, { reducedMotion: "no-preference" });
  await page.getByText(`${CHANNELS} channels, `).waitFor();
  await pause(3000);
  const devtools = await page.context().newCDPSession(page);
  const busy = await measured(devtools);
  const a = await busy();
  const counted = await page.evaluate(count, ".waterfall");
  const b = await busy();
  clearInterval(emitting);
  client.close();
  console.log(`\nThe spectrum with ${CHANNELS} channels, in software, one wave a second on each:\n`);
  row("page", "frames a second", "with the picture elsewhere", "longest pause", "main thread busy, with the counting");
  row(..."-----".split(""));
  row("the spectrum", counted.rate.toFixed(1), counted.moved.toFixed(1), `${counted.longest.toFixed(0)} ms`, share("TaskDuration", a, b));
  await page.goto(`${gateway.url}/livez`);
  const idle = await page.evaluate(count, "body");
  row("a page with one word, for comparison", idle.rate.toFixed(1), "–", `${idle.longest.toFixed(0)} ms`, "–");
  await close();
}

/** Runs in a page for ten seconds: how many frames its scripts may draw, and in how many an element is elsewhere. */
function count(selector) {
  return new Promise((resolve) => {
    const place = () => new DOMMatrix(getComputedStyle(document.querySelector(selector)).transform).m41;
    const begin = performance.now();
    let [all, moved, longest, before, last] = [0, 0, 0, place(), begin];
    const step = (now) => {
      all += 1;
      const at = place();
      if (at !== before) moved += 1;
      before = at;
      longest = Math.max(longest, now - last);
      last = now;
      if (now - begin < 10_000) requestAnimationFrame(step);
      else resolve({ rate: (1000 * all) / (now - begin), moved: (1000 * moved) / (now - begin), longest });
    };
    requestAnimationFrame(step);
  });
}

/** First paint, weight, and the time from `up` to a wave on the page. */
async function start(house) {
  await openBrowser();
  console.log("\nThe first page, with a new profile of the browser each time:\n");
  row("run", "first contentful paint", "bytes, compressed", "from the start of `aether up` to its first wave on the page");
  row("-", "-", "-", "-");
  for (let run = 1; run <= 5; run += 1) {
    const begin = performance.now();
    const up = house.aether("up", "--listen", `127.0.0.1:${await freePort()}`);
    const [, url] = await up.says(/^gateway: (http:\S+)/);
    const { page, close } = await openPage(url, { reducedMotion: "no-preference" });
    await page.getByRole("button", { name: "orders.created", exact: true }).waitFor();
    const first = performance.now() - begin;
    const measured = await page.evaluate(() => ({
      paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
      bytes: [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
        .filter((entry) => !new URL(entry.name).pathname.startsWith("/api/"))
        .reduce((sum, entry) => sum + entry.encodedBodySize, 0),
    }));
    row(run, `${measured.paint.toFixed(0)} ms`, measured.bytes, `${first.toFixed(0)} ms`);
    await close();
    await up.kill();
  }
}

/** Subscribed clients, some of which do not read. */
async function crowd(house) {
  console.log("\nWebSocket clients that are each subscribed to everything; from the time at which a wave was emitted (in whole ms):\n");
  row("clients", "do not read", "waves a second", "p50", "p99", "largest", "arrived", "told as missed", "gateway, cores", "clients, cores");
  row(..."----------".split(""));
  for (const [clients, silent, rate] of [[1000, 0, 100], [1000, 100, 100], [1000, 0, 1000], [1000, 100, 1000], [100, 0, 1000], [100, 10, 1000]]) {
    const server = await house.server();
    const gateway = await house.gateway(server.url, undefined, "--no-physics", ...MANY);
    const [times, all] = [[], []];
    let [missed, counted] = [0, false];
    for (let at = 0; at < clients; at += 1) {
      const looks = at >= silent && (at - silent) % LOOKS === 0;
      const client = await Client.open(gateway.port, (payload) => {
        if (!looks || !counted || !payload.subarray(0, 16).includes('"op":"waves"')) return;
        const now = Date.now();
        const { waves, missed: more } = JSON.parse(payload);
        missed += more;
        for (const wave of waves) times.push(now - wave.emitted_unix_ms);
      });
      client.send({ op: "subscribe", id: 1, filter: { pattern: "crowd.>" } });
      all.push(client);
    }
    all.slice(0, silent).forEach((client) => client.hang());
    const emitter = emit(house, server, "crowd.wave", rate);
    await pause(4000);
    const [one, self] = [status(gateway), process.cpuUsage()];
    counted = true;
    const seconds = 8;
    await pause(1000 * seconds);
    counted = false;
    const used = process.cpuUsage(self);
    const two = status(gateway);
    times.sort((a, b) => a - b);
    const looking = Math.ceil((clients - silent) / LOOKS);
    row(clients, silent, rate, `${percentile(times, 0.5)} ms`, `${percentile(times, 0.99)} ms`, `${times.at(-1)} ms`,
      `${((100 * times.length) / (looking * rate * seconds)).toFixed(0)} %`, missed, cores(one, two), ((used.user + used.system) / 1e6 / seconds).toFixed(2));
    all.forEach((client) => client.close());
    for (const each of [emitter, gateway, server]) await each.kill();
  }
}

/** Ten thousand channels, all with a line and a history of their own. */
async function memory(house) {
  const server = await house.server();
  const gateway = await house.gateway(server.url, undefined, "--set", "service.gateway.max_channels=10000",
    "--field-limit", "messages_per_second=100000", "--field-limit", "messages_burst=100000");
  const before = status(gateway);
  let waiting;
  let left;
  const client = await Client.open(gateway.port, (payload) => {
    if (payload.includes('"op":"emitted"') && (left -= 1) === 0) waiting();
  });
  console.log("\nMemory of the gateway with 10,000 channels, each with 1 wave in 15 s:\n");
  row("after", "resident MB");
  row("-", "-");
  row("the start", before.megabytes.toFixed(0));
  const begin = performance.now();
  for (let round = 1; round <= 8; round += 1) {
    left = 10_000;
    const done = new Promise((resolve) => (waiting = resolve));
    for (let at = 0; at < 10_000; at += 1) {
      client.send({ op: "emit", id: at, wave: { channel: `memory.of.channel.${at}`, json: { n: at } } });
      if (client.socket.writableNeedDrain) await once(client.socket, "drain");
    }
    await done;
    await pause(Math.max(0, round * 15_000 - (performance.now() - begin)));
    const { flow } = await read(gateway, "/api/overview");
    row(`${round * 15} s, ${flow.known_channels} channels`, status(gateway).megabytes.toFixed(0));
  }
  client.close();
}

const parts = { load, frames, start, crowd, memory };
const wanted = process.argv.slice(2);
for (const [name, run] of Object.entries(parts)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const house = new House();
  try {
    await run(house);
  } finally {
    await house.close();
  }
}
await closeBrowser();
