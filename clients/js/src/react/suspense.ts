"use client";
// The Suspense entry: hooks of the same names that wait for the first data. They do not wait on the server, nor ever again.
import { useCounter as counter, useEntries as entries, useMembers as members } from "./hooks.js";
import { onServer } from "./lease.js";
import { loadingOf } from "./loading.js";
import { useScope } from "./scope.js";
import { useValue as value } from "./value.js";

function waiting<H extends (...given: never[]) => unknown>(hook: H): H {
  const waits = (...given: never[]): unknown => {
    const { field, initial } = useScope();
    if (!onServer && initial === undefined) {
      const loading = loadingOf(field);
      // After a failure the component is shown without data; the status says why.
      if (!loading.done && field.status !== "online" && !field.keys().length) throw loading.ready;
    }
    return hook(...given);
  };
  return waits as H;
}

export const useValue = waiting(value);
export const useEntries = waiting(entries);
export const useCounter = waiting(counter);
export const useMembers = waiting(members);
