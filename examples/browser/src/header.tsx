// The counter that all pages share, and the state of the connection.
import { useCounter, usePending, useStatus } from "@aether-bus/client/react";

export function Header() {
  const [likes, like] = useCounter("likes");
  const status = useStatus();
  const pending = usePending();
  return (
    <header>
      <h1>Orders</h1>
      <button id="likes" onClick={() => like(1)}>
        Likes: {likes}
      </button>
      <span id="status" role="status">
        {status}
        {pending > 0 && `, ${pending} not sent`}
      </span>
    </header>
  );
}
