// The live orders, with a filter that all pages share, and a question to the inventory.
import type { Bus } from "@aether-bus/client";
import { useValue, useWaves } from "@aether-bus/client/react";
import { useMemo } from "react";
import { OUTCOMES, ordersOf, SKUS } from "./orders";
import { Reserve } from "./reserve";

const SHOWN = 20;

export function Board({ shop }: { shop: Bus }) {
  const [sku, setSku] = useValue("filter/sku", "");
  const [outcome, setOutcome] = useValue("filter/outcome", "");
  const { waves, missed, error } = useWaves("orders.>", { limit: 500 });
  const orders = useMemo(() => ordersOf(waves), [waves]);
  const shown = orders.filter((order) => (!sku || order.sku === sku) && (!outcome || order.outcome === outcome)).slice(0, SHOWN);
  return (
    <main>
      <Reserve shop={shop} />
      <form>
        <Choice label="Article" id="sku" value={sku} options={SKUS} onChange={setSku} />
        <Choice label="State" id="outcome" value={outcome} options={OUTCOMES} onChange={setOutcome} />
        {missed > 0 && <span>{missed} messages were not shown</span>}
        {error !== undefined && <span role="alert">{String(error)}</span>}
      </form>
      <table>
        <thead>
          <tr>
            <th>Order</th>
            <th>Article</th>
            <th>Price</th>
            <th>State</th>
          </tr>
        </thead>
        <tbody id="orders">
          {shown.map(({ order, sku, quantity, amount_cents, outcome }) => (
            <tr key={order} className={outcome}>
              <td>{order}</td>
              <td>
                {quantity} {sku}
              </td>
              <td>{(amount_cents / 100).toFixed(2)}</td>
              <td>{outcome}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </main>
  );
}

function Choice(props: { label: string; id: string; value: string; options: readonly string[]; onChange: (value: string) => void }) {
  const { label, id, value, options, onChange } = props;
  return (
    <label>
      {label}{" "}
      <select id={id} value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">all</option>
        {options.map((option) => (
          <option key={option}>{option}</option>
        ))}
      </select>
    </label>
  );
}
