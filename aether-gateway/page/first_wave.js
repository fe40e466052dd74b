// How to emit the first wave, by a command that works for this gateway.

import { quoted } from "./format.js";

/** Goes through the gateway, so it needs no address of a server and works also where the bus is inside of its process. */
export function firstWave(app) {
  if (app.link.hello?.emits === false) return "aether emit hello.world '{\"n\":1}' --medium nats://SERVER:4222";
  const token = app.link.hello?.needs_token ? ` -H "authorization: Bearer $AETHER_WAVES_TOKEN"` : "";
  return `curl -H 'content-type: application/json' -d '{"n":1}'${token} ${quoted(`${location.origin}/waves/hello.world`)}`;
}
