// Compiled, never run: what the types of the bus promise.
import { AskError, bus, BusError } from "@aether-bus/client";
import type { Bus, Emitted, Heard, Kind, Wave } from "@aether-bus/client";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <T extends true>(): T | undefined => undefined;

interface Order {
  sku: string;
  count: number;
}
const shop: Bus = bus("ws://127.0.0.1:8080/ws", { token: () => "secret", queue: 10 });
const maybe: number | undefined = undefined;

export async function all(order: Order): Promise<void> {
  // An interface is JSON, too; and an option may be there and undefined.
  const emitted = await shop.emit("orders.created", order, { amplitude: maybe, kind: "event", phase: "assert" });
  holds<Equal<typeof emitted, Emitted>>();
  await shop.emit("orders.bytes", new Uint8Array(3), { cause: { id: "a@1/2" }, metadata: { a: "b" } });
  // @ts-expect-error not a kind
  await shop.emit("orders.created", order, { kind: "events" });

  for await (const wave of shop.listen<Order>("orders.>", { kinds: ["event"], minAmplitude: 0.5 })) {
    holds<Equal<typeof wave, Heard<Order>>>();
    const count: number = wave.payload.count;
    const kind: Kind = wave.kind;
    const missed: number = wave.missed;
    // @ts-expect-error a wave is read only
    wave.missed = count + missed + kind.length;
    break;
  }
  for await (const wave of shop.listen("orders.>")) holds<Equal<typeof wave.payload, unknown>>();

  try {
    const answer = await shop.ask<Order>("orders.last", undefined, { patience: 100, signal: AbortSignal.timeout(5) });
    holds<Equal<typeof answer, Wave<Order>>>();
  } catch (error) {
    if (error instanceof AskError || error instanceof BusError) void (error.reason === "unknown");
  }
  await shop.close();
}
