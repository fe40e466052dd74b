// A page of all hooks, which is rendered on the server and hydrated in the page.
import { createElement as h } from "react";

function Body({ client }) {
  const [title, , { pending, status }] = client.useValue("title", "none");
  const [missing] = client.useValue("missing", "absent");
  const rooms = client.useEntries("room/*", (entries) => entries.map(([key, value]) => `${key}=${value}`).join());
  const all = client.useEntries("*");
  const [count] = client.useCounter("n");
  const [tags] = client.useMembers("tags");
  const others = client.useOthers();
  client.usePresence({ here: true });
  client.useRefused(() => {});
  client.useSuperseded(() => {});
  const { waves } = client.useWaves("a.>");
  return h("main", null, h("h1", null, title), h("p", null, [missing, rooms, all.length, String(count), tags.join(), others.size, client.useStatus(), client.usePending(), pending, status, waves.length].join(" ")));
}

export function App({ client, field, url, initial }) {
  return h(client.FieldProvider, { field, url, initial }, h(Body, { client }));
}
