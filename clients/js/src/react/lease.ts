// Keeps the clients of providers outside of components, so that StrictMode and Activity open one connection.
import { useEffect, useState } from "./imports.js";
import { shared, type Client, type Lease } from "./shared.js";

/** How long a client stays open after its last provider was unmounted: it often comes back at once. */
const LINGER_MS = 1_000;
/** The same for one whose provider was rendered and never mounted, for example because it waits for data. */
const ABANDONED_MS = 10_000;

export const onServer = typeof window === "undefined";

/** The client of this URL and these options; functions among them do not count. `undefined` without a URL and on the server. */
export function useLease<C extends Client, O>(
  kind: string,
  open: (url: string | readonly string[], options?: O) => C,
  url: string | readonly string[] | undefined,
  options: O | undefined,
): C | undefined {
  const [, renderAgain] = useState<object>();
  const key = JSON.stringify([kind, url, options]);
  let lease = shared.leases.get(key);
  if (!lease && url && !onServer) {
    shared.leases.set(key, (lease = { client: open(url, options), users: 0 }));
    closeAfter(ABANDONED_MS, key, lease);
  }
  useEffect(() => {
    if (!lease) return undefined;
    // It has closed while the provider was hidden: the next render opens another one.
    if (shared.leases.get(key) !== lease) return renderAgain({});
    lease.users++;
    clearTimeout(lease.timer);
    return () => {
      if (!--lease.users) closeAfter(LINGER_MS, key, lease);
    };
  }, [key, lease]);
  return lease?.client as C | undefined;
}

function closeAfter(ms: number, key: string, lease: Lease): void {
  lease.timer = setTimeout(() => {
    shared.leases.delete(key);
    void lease.client.close();
  }, ms);
}
