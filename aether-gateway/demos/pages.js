// Has the browser keep the pages, for the time when there is no gateway.

if ("serviceWorker" in navigator) {
  const address = new URL("sw.js", import.meta.url).href;
  const policy = globalThis.trustedTypes?.createPolicy("aether-demos", { createScriptURL: (given) => (given === address ? given : "") });
  navigator.serviceWorker.register(policy ? policy.createScriptURL(address) : address).catch(() => {
    // A private window has none; then the pages need the gateway.
  });
}
