// A page with a counter, a list and a text, over the real client. The server renders it, too.
import { createElement as h, StrictMode, useEffect, useLayoutEffect } from "react";

const shown = (globalThis.commits ??= {});
// In one step with what is shown; other effects come some time after it. The server has no such step.
const useStep = typeof window === "undefined" ? useEffect : useLayoutEffect;

function useCommits(name) {
  useStep(() => {
    shown[name] = (shown[name] ?? 0) + 1;
  });
}

function Clicks({ client }) {
  const [clicks, add] = client.useCounter("clicks");
  useCommits("clicks");
  return h("button", { onClick: () => add(1) }, String(clicks));
}

function Value({ client, name }) {
  const [value, set, { pending, status }] = client.useValue(name, "");
  return h("label", null, h("input", { id: name, value, onChange: (event) => set(event.target.value) }), h("output", { id: `${name}-info` }, `${pending} ${status}`));
}

function Plain({ client, name }) {
  const [value] = client.useValue(name, "");
  useCommits(name);
  return h("p", { id: `${name}-plain` }, value);
}

function Rooms({ client }) {
  const rooms = client.useEntries("room/*");
  useCommits("rooms");
  return h("ul", null, rooms.map(([key, value]) => h("li", { key }, `${key}=${value}`)));
}

function Others({ client, at }) {
  client.usePresence({ at });
  return h("p", { id: "others" }, [...client.useOthers().values()].map((value) => value.at).sort().join());
}

export function Page({ client, url, initial, at, options }) {
  return h(
    StrictMode,
    null,
    h(client.FieldProvider, { url, options, initial }, h(Clicks, { client }), h(Value, { client, name: "text" }), h(Plain, { client, name: "text" }), h(Plain, { client, name: "other" }), h(Rooms, { client }), h(Others, { client, at })),
  );
}
