// Keeps the demos in the browser, so that they open without the gateway. While it is there, its files always come first.

const CACHE = "aether-demos";
const FILES = [
  "./", "index.html", "topology.html", "kanban.html", "markdown.html", "style.css", "icon.svg", "common.js", "pages.js", "list.js", "order.js",
  "topology.js", "topology-model.js", "kanban.js", "kanban-model.js", "markdown.js", "markdown-model.js", "markdown-parse.js",
  "/client/aether-client.min.js", "/page/colours.css",
];
/** A gateway that is stuck holds no page up for longer. What is only kept may take its time: nobody waits for it. */
const PATIENCE_MS = 4_000;

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(refresh());
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  const isOurs = origin === location.origin && FILES.some((file) => new URL(file, location.href).pathname === pathname);
  if (request.method !== "GET" || !isOurs) return;
  event.respondWith(answer(request));
  // Also of the pages that nobody has opened since they changed.
  if (request.mode === "navigate") event.waitUntil(refresh().catch(() => {}));
});

/** From the gateway, or as it was kept. */
async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    return await load(cache, request.url, AbortSignal.timeout(PATIENCE_MS));
  } catch (error) {
    const kept = await cache.match(request.url, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

async function load(cache, address, signal) {
  const response = await fetch(address, { cache: "no-cache", signal });
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  const { pathname } = new URL(address, location.href);
  await cache.put(new URL(pathname, location.href), response.clone());
  return response;
}

async function refresh() {
  const cache = await caches.open(CACHE);
  await Promise.all(FILES.map((file) => load(cache, new URL(file, location.href).href)));
}
