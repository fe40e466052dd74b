// What the tests of fields share: clients of Node, and waiting for what they show.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import WebSocket from "ws";
import { connect } from "../dist/index.js";
import { folder, Gateway, onStop, until } from "./harness.mjs";

/** A client in Node. It is closed at the end. */
export function client(url, options = {}) {
  const field = connect(url, { WebSocket, ...options });
  onStop(() => field.close());
  return field;
}

/** A gateway with a file, so that writes become durable. */
export async function durableGateway(options = {}) {
  return Gateway.start({ fields: { home: join(await folder(), "home.field") }, ...options });
}

/** The option of the gateway for a list of tokens. */
export async function tokens(list) {
  const file = join(await folder(), "tokens.json");
  await writeFile(file, JSON.stringify(list), { mode: 0o600 });
  return ["--field-tokens", file];
}

/** Resolves when the field shows a value for which `is` is true. */
export function shows(field, key, is, ms) {
  const test = typeof is === "function" ? is : (value) => value === is;
  return until((nudge) => field.on(key, nudge), () => test(field.get(key)) && { value: field.get(key) }, { ms, what: `${key} in the field` });
}

export function status(field, wanted, ms) {
  return until((nudge) => field.onStatus(nudge), () => field.status === wanted, { ms, what: `the status ${wanted}` });
}
