// Compiled, never run: what the types of fields promise.
import { connect } from "@aether-bus/client";
import type { Change, Field, Json, Refusal, Status, Write } from "@aether-bus/client";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <T extends true>(): T | undefined => undefined;

type Home = { "room/7/lamp": { on: boolean }; title: string };
const home: Field<Home> = connect<Home>("ws://127.0.0.1/field/home/ws", { patterns: ["room/7/*"], token: async () => "secret" });

const lamp = home.get("room/7/lamp");
holds<Equal<typeof lamp, { on: boolean } | undefined>>();
const write: Write = home.set("room/7/lamp", { on: true });
home.update("title", (old) => {
  holds<Equal<typeof old, string | undefined>>();
  return undefined;
});
// @ts-expect-error a value of another type
home.set("title", 3);
// @ts-expect-error a key that the schema does not have
home.get("titel");
// @ts-expect-error a state that there is not
write.state === "done";
// @ts-expect-error the status is read only
home.status = "online";

const any = connect(["ws://a/field/x/ws", "ws://b/field/x/ws"]);
any.set("whatever", 1);
any.on("*", (change) => void holds<Equal<typeof change, Change>>(), { now: true, signal: new AbortController().signal });
any.onRefused((refusal) => void holds<Equal<typeof refusal, Refusal>>());
any.onStatus((status) => void holds<Equal<typeof status, Status>>());
const result: Promise<"durable" | "memory"> = Promise.resolve(any.delete("x"));
const sum: number | bigint = any.counter("visits").value;
const others: ReadonlyMap<string, Json> = any.presence.others();
any.presence.set({ cursor: [1, 2] });
// @ts-expect-error a function is not JSON
any.presence.set({ cursor: () => 1 });
export { others, result, sum };
