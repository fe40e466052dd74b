// The bus of a program against a gateway that does not keep to the protocol, is slow to answer, or never does.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { bus } from "../dist/index.js";
import { onStop, stopAll, until, within } from "./harness.mjs";

after(stopAll);

/** A gateway that answers with what `answer` returns: messages, or texts as they are. */
async function fake(answer, hello = { op: "hello", needs_token: false, max_message_bytes: 65_536 }) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await new Promise((resolve) => server.once("listening", resolve));
  onStop(() => new Promise((resolve) => (server.close(resolve), server.clients.forEach((client) => client.terminate()))));
  const seen = [];
  server.on("connection", (socket) => {
    const send = (message) => socket.send(typeof message === "string" ? message : JSON.stringify(message));
    if (hello) send(hello);
    socket.on("message", (data) => {
      const request = JSON.parse(data);
      seen.push(request);
      for (const message of answer(request, socket) ?? []) send(message);
    });
  });
  const problems = [];
  const shop = bus(`ws://127.0.0.1:${server.address().port}`, { WebSocket, onError: (problem) => problems.push(problem) });
  onStop(() => shop.close());
  return { shop, problems, seen, server };
}

const done = ({ op, id }) => (op === "subscribe" || op === "unsubscribe" || op === "token" ? [{ op: "done", id }] : []);
const emitted = (id, more) => ({ op: "emitted", id, wave: "g@1/1", receivers: null, waited: false, ...more });
const wave = { id: "a@1/1", channel: "a", kind: "event", amplitude: 0.5, source: "a", instance: "1", emitted_unix_ms: 1, age_ms: 0, hops: 0, root: "a@1/1", content_type: "application/json", bytes: 1, json: 1 };

test("messages that make no sense are reported and skipped", async () => {
  const nonsense = [
    "", "{", "7", "null", "[]", '"text"', "{}", '{"op":7}', '{"op":"waves"}', '{"op":"waves","id":"x","waves":{}}',
    '{"op":"emitted"}', '{"op":"emitted","id":null}', '{"op":"answer","id":99}', '{"op":"error"}', '{"op":"done","id":1e300}',
    '{"op":"new-in-a-later-version","id":1}', '{"op":"view","view":"map","data":{}}', '{"op":"__proto__","id":"__proto__"}',
  ];
  const broken = [null, 7, {}, { id: 7, channel: "a" }, { id: "a@1/1" }, { ...wave, base64: "%%%" }, { ...wave, kind: 7 }, { ...wave, age_ms: undefined }];
  const { shop, problems } = await fake((request) => {
    if (request.op === "subscribe") {
      const { id } = request;
      return [...nonsense, ...done(request), { op: "waves", id, missed: "many", waves: broken }, { op: "waves", id, missed: 2, waves: [...broken, { ...wave, key: 7, metadata: [7, ["a"], ["b", 1]] }] }];
    }
    if (request.op === "emit") return [emitted(request.id, { receivers: "few", waited: 1, wave: 7 })];
    return done(request);
  });
  const heard = shop.listen("a");
  await heard.ready;
  const { value } = await within(60_000, heard.next());
  assert.deepEqual([value.payload, value.missed, value.gap], [1, 2 + 2 * broken.length, false]);
  assert.deepEqual([value.kind, value.metadata.b, value.metadata.toString, value.key], ["event", "1", undefined, undefined]);
  assert.deepEqual(await shop.emit("a", 1), { id: "7", receivers: null, waited: false });
  assert.ok(problems.length >= 6 && problems.every(({ code }) => code === "protocol"), JSON.stringify(problems));
  assert.equal(shop.status, "online");
});

test("a wave that waits for room is told so, and others are not held up", async () => {
  let first;
  const { shop } = await fake((request) => {
    if (request.op !== "emit") return done(request);
    if (request.wave.channel === "full") return (first = request.id), [{ op: "waiting", id: first }];
    return [emitted(request.id), emitted(first, { waited: true })];
  });
  const waiting = shop.emit("full");
  const other = await within(60_000, shop.emit("other"));
  assert.deepEqual([other.waited, (await within(60_000, waiting)).waited], [false, true]);
});

test("an error without a number rejects the wave that was unreadable, and no other", async () => {
  const { shop, problems } = await fake((request) => {
    if (request.op !== "emit") return done(request);
    if (request.wave.channel === "unreadable") return [{ op: "error", id: 0, reason: "json", text: "what is this" }];
    if (request.wave.channel === "full") return [{ op: "waiting", id: request.id }];
    return [emitted(request.id)];
  });
  const waiting = shop.emit("full");
  const before = shop.emit("before");
  const unreadable = shop.emit("unreadable").catch((error) => error);
  const after = shop.emit("after");
  assert.ok((await within(60_000, Promise.all([before, after]))).every(({ id }) => id));
  const error = await within(60_000, unreadable);
  assert.deepEqual([error.name, error.reason, error.message], ["BusError", "json", "what is this"]);
  assert.deepEqual(problems.map(({ code }) => code), ["protocol"]);
  let settled = false;
  waiting.catch(() => {}).finally(() => (settled = true));
  await shop.emit("after");
  assert.equal(settled, false, "the one that waits is with the gateway");
});

test("at most fifteen are with the gateway at once", async () => {
  const held = [];
  const { shop, seen, server } = await fake((request) => {
    if (request.op !== "emit") return done(request);
    held.push(request.id);
    return [];
  });
  const all = Array.from({ length: 40 }, (_, number) => shop.emit("a", number).then(() => 1, (error) => error.reason));
  await until((nudge) => (server.clients.forEach((client) => client.on("message", nudge)), server.on("connection", (client) => client.on("message", nudge)), undefined), () => held.length >= 15);
  const emits = () => seen.filter(({ op }) => op === "emit").length;
  // A question of the same connection would be the sixteenth.
  const asked = shop.ask("q", 1, { patience: 20 }).catch((error) => error.reason);
  assert.equal(await within(60_000, asked), "patience");
  assert.equal(emits(), 15);
  await shop.close();
  const reasons = await Promise.all(all);
  assert.deepEqual([reasons.filter((reason) => reason === "unknown").length, reasons.filter((reason) => reason === "closed").length], [15, 25]);
});

test("a question that the gateway forgets ends all the same", async () => {
  const { shop } = await fake(done);
  const error = await within(60_000, shop.ask("a", 1, { patience: 50 }).catch((error) => error));
  assert.deepEqual([error.name, error.reason], ["AskError", "patience"]);
});

test("an answer that makes no sense is an AskError", async () => {
  const { shop } = await fake((request) => (request.op === "ask" ? [{ op: "answer", id: request.id, wave: 7 }] : done(request)));
  const error = await within(60_000, shop.ask("a", 1, { patience: 60_000 }).catch((error) => error));
  assert.deepEqual([error.name, error.reason], ["AskError", "protocol"]);
});

test("nothing is sent before the hello", async () => {
  const { shop, seen, server } = await fake(done, null);
  const connected = new Promise((resolve) => server.once("connection", resolve));
  const asked = shop.ask("a", 1, { patience: 60_000 }).catch((error) => error);
  const socket = await within(60_000, connected);
  // Whatever the client had sent would be here before the answer to this.
  const pong = new Promise((resolve) => socket.once("pong", resolve));
  socket.ping();
  await within(60_000, pong);
  assert.deepEqual(seen, []);
  socket.send('{"op":"hello","needs_token":false}');
  await until((nudge) => (socket.on("message", nudge), () => socket.off("message", nudge)), () => seen.find(({ op }) => op === "ask"));
  await shop.close();
  assert.equal((await asked).reason, "unknown");
});
