// Asks the inventory service to reserve an article, and shows the answer.
import type { Bus } from "@aether-bus/client";
import { useState, type FormEvent } from "react";
import { SKUS } from "./orders";

/** An answer of the inventory, such as `{"outcome":"reserved","available":23}`. */
interface Answer {
  readonly outcome: string;
  readonly reason?: string;
  readonly available?: number;
}

export function Reserve({ shop }: { shop: Bus }) {
  const [sku, setSku] = useState<string>("lamp");
  const [text, setText] = useState("");

  async function reserve(event: FormEvent) {
    event.preventDefault();
    setText("…");
    try {
      const { payload } = await shop.ask<Answer>("inventory.reserve", { order: crypto.randomUUID(), sku, quantity: 1 });
      setText(describe(payload));
    } catch (error) {
      setText(String(error));
    }
  }

  return (
    <form onSubmit={reserve}>
      <select id="article" aria-label="Article to reserve" value={sku} onChange={(event) => setSku(event.target.value)}>
        {SKUS.map((sku) => (
          <option key={sku}>{sku}</option>
        ))}
      </select>{" "}
      <button id="reserve">Reserve one</button> <output id="answer">{text}</output>
    </form>
  );
}

function describe({ outcome, reason, available }: Answer): string {
  return [outcome, reason, available !== undefined && `${available} left`].filter(Boolean).join(", ");
}
