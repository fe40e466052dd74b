// Compiled, never run: the types of the React entries and of the compatible one.
import { Aether } from "@aether-bus/client/compat";
import { FieldProvider, useEntries, useStatus, useValue } from "@aether-bus/client/react";
import * as suspense from "@aether-bus/client/react/suspense";
import type { JSX } from "react";

function Lamp(): JSX.Element {
  const [lamp, set] = useValue<{ on: boolean }>("room/7/lamp", { on: false });
  const on: boolean = lamp.on;
  const [maybe] = useValue<string>("title");
  // @ts-expect-error it may be absent
  const title: string = maybe;
  void useEntries("room/*");
  return (
    <button onClick={() => set((old) => ({ on: !old?.on }))}>
      {String(on)} {title} {useStatus()}
    </button>
  );
}

export const App = (): JSX.Element => (
  <FieldProvider url="ws://127.0.0.1:8080/field/home/ws">
    <Lamp />
  </FieldProvider>
);
export const rest = { Aether, suspense };
