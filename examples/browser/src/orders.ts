// The orders of the order system, as far as the waves of this page have told.
import type { Wave } from "@aether-bus/client";

export const SKUS = ["chair", "desk", "lamp", "shelf", "table"] as const;
export const OUTCOMES = ["created", "completed", "refused", "compensated"] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Order {
  readonly order: string;
  readonly sku: string;
  readonly quantity: number;
  readonly amount_cents: number;
  readonly outcome: Outcome;
}

/** The newest first. A later wave of an order takes the place of an earlier one. */
export function ordersOf(waves: readonly Wave[]): Order[] {
  const orders = new Map<string, Order>();
  for (const { channel, payload } of waves) {
    const outcome = OUTCOMES.find((outcome) => channel === `orders.${outcome}`);
    if (!outcome || !isContent(payload)) continue;
    orders.delete(payload.order);
    orders.set(payload.order, { ...payload, outcome });
  }
  return [...orders.values()].reverse();
}

/** Every program on the bus may emit on this channel, so the page looks at what it got. */
function isContent(payload: unknown): payload is Omit<Order, "outcome"> {
  const { order, sku, quantity, amount_cents } = Object(payload) as Record<string, unknown>;
  return typeof order === "string" && typeof sku === "string" && typeof quantity === "number" && typeof amount_cents === "number";
}
