// What a service receives, answers and emits, by its own description: AsyncAPI, read.

import { html, nothing } from "./widgets.js";
import { written } from "./json.js";

/** For how long a description counts as new, in milliseconds. */
const FRESH = 30_000;

let document_ = null;
let readAt = -FRESH;
let error = "";

export async function read(app) {
  if (performance.now() - readAt < FRESH) return;
  readAt = performance.now();
  try {
    document_ = await app.link.fetch("/asyncapi.json");
    error = "";
  } catch (failed) {
    error = failed.message;
    readAt = -FRESH;
  }
  app.draw();
}

export function draw(name) {
  if (error) return html`<p class="error" role="alert">${error}</p>`;
  if (!document_) return html`<p class="quiet">Asking the services.</p>`;
  const all = operationsOf(name);
  if (all.length === 0) return html`<p class="quiet">It does not describe itself. A service that is built with <code>Service::builder</code> does.</p>`;
  return html`<table class="operations"><thead><tr><th>operation</th><th>channel</th><th>group</th><th>payload</th><th>answer</th></tr></thead>
    <tbody>${all.map((operation) => html`<tr><td>${operation.reply ? "answers" : operation.action === "receive" ? "receives" : "emits"}</td>
      <td><span class="pattern">${operation.pattern}</span></td><td>${operation.group ?? html`<span class="quiet">–</span>`}</td>
      <td>${payload(operation.message)}</td><td>${operation.reply ? payload(operation.reply) : html`<span class="quiet">–</span>`}</td></tr>`)}</tbody></table>`;
}

/** Operations are called by their service, their action and their channel. */
function operationsOf(name) {
  const key = name.replace(/[^A-Za-z0-9._-]/g, "_");
  const of = (reference) => reference?.$ref.slice(2).split("/").reduce((at, part) => at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], document_);
  return Object.entries(document_.operations)
    .filter(([called, { action }]) => called.startsWith(`${key}.${action}.`))
    .map(([, operation]) => ({
      action: operation.action,
      pattern: of(operation.channel)?.["x-aether-pattern"] ?? "",
      group: operation.bindings?.nats?.queue,
      message: of(operation.messages[0]),
      reply: operation.reply ? of(operation.reply.messages[0]) ?? {} : null,
    }));
}

function payload(message) {
  const schema = message?.payload;
  if (!schema) return message?.contentType ?? html`<span class="quiet">any</span>`;
  // Other programs write schemas: what is no reference breaks no page.
  const reference = typeof schema.$ref === "string" ? schema.$ref.split("/").at(-1) : undefined;
  const whole = reference ? document_.components.schemas[reference] : schema;
  const word = reference?.split(".").at(-1) ?? whole.title ?? whole.type ?? "JSON";
  return html`<details><summary>${word}${whole.properties ? html` <small>${Object.keys(whole.properties).join(", ")}</small>` : nothing}</summary><pre><code>${written(whole, 2)}</code></pre></details>`;
}
