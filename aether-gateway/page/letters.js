// Dead letters: commands and questions that failed, kept where they failed, and waves that durable consumers have given up.
// Inspect one, send it again, or drop it.

import { change, confirm } from "./confirm.js";
import { badge, empty, html, nothing } from "./widgets.js";
import { bytes, count, plural, span } from "./format.js";
import { exact, written } from "./json.js";

let list = null;
/** Why the list could not be read, and why something else was not done: reading again does not clear the second. */
let error = "";
let failure = "";
let shown = null;
let isReading = false;

export function open(app) {
  read(app);
}

export function back(app) {
  read(app);
}

export function close() {
  shown = null;
  failure = "";
}

export function key(app, event) {
  if (event.key === "r") read(app);
}

export function narrowed(app) {
  if (app.page === "letters") read(app);
}

async function read(app) {
  isReading = true;
  app.draw();
  try {
    const channel = app.filter ? `?channel=${encodeURIComponent(app.filter)}` : "";
    list = await app.link.fetch(`/api/dead${channel}`);
    error = "";
  } catch (failed) {
    error = failed.message;
  }
  isReading = false;
  app.draw();
}

async function inspect(app, id) {
  if (shown?.id === id) {
    shown = null;
  } else {
    try {
      shown = await app.link.fetch(`/api/dead/${id}`);
      failure = "";
    } catch (failed) {
      failure = failed.message;
    }
  }
  app.draw();
}

async function changeLetter(app, path, method, done, undone) {
  failure = await change(app, `/api/dead/${path}`, method, done, undone);
  shown = null;
  await read(app);
}

function replay(app, letter) {
  confirm(app, {
    title: "Send this letter again?",
    text: html`The ${letter.kind} on <b>${letter.channel}</b> is emitted as a new wave for all who hear it, and the letter is gone then.`,
    verb: "Send it again",
    run: () => changeLetter(app, `${letter.id}/replay`, "POST", (answer) => `Sent again as ${answer.wave}.`, `The letter on ${letter.channel} was not sent again`),
  });
}

function drop(app, letter) {
  confirm(app, {
    title: "Drop this letter?",
    text: html`The ${letter.kind} on <b>${letter.channel}</b> and its payload are gone then.`,
    verb: "Drop it",
    isDanger: true,
    run: () => changeLetter(app, letter.id, "DELETE", () => "The letter was dropped.", `The letter on ${letter.channel} was not dropped`),
  });
}

export function draw(app) {
  const silent = list?.stores.filter((store) => store.error) ?? [];
  return html`<div class="head"><h1>Dead letters</h1><div class="actions"><button @click=${() => read(app)} ?disabled=${isReading} title="key r">${isReading ? "Reading" : "Read again"}</button></div></div>
    <p class="quiet">Commands and questions that failed are kept where they failed, and waves that a durable consumer has given up beside their log. Services that are built <code>.with_letters()</code> answer for theirs; those in JetStream are read from the server.</p>
    ${failure ? html`<p class="card error" role="alert">${failure} <button class="small" @click=${() => { failure = ""; app.draw(); }}>Close</button></p>` : nothing}
    ${error ? html`<p class="card error" role="alert">${error}</p>` : nothing}
    ${silent.map((store) => html`<p class="card error">${store.service} (${store.store}) did not answer: ${store.error}</p>`)}
    <section class="card" aria-labelledby="h-letters"><h2 id="h-letters">${list ? plural(list.letters.length, "letter") : "Letters"}${list ? html` <small>of ${plural(list.stores.length, "store")} that ${list.stores.length === 1 ? "answers" : "answer"}</small>` : nothing}</h2>
      ${list === null ? html`<p class="quiet">Asking the services.</p>` : list.letters.length === 0 ? none() : table(app)}
      ${list?.hidden > 0 ? html`<p class="note">${plural(list.hidden, "letter")} of channels that the token does not let you hear.</p>` : nothing}
      ${list?.more ? html`<p class="note">There are more; narrow the channel to see them.</p>` : nothing}</section>
`;
}

function none() {
  return empty("No dead letters", list.stores.length === 0 ? "No running service keeps letters. To keep them, build a service like this:" : "Nothing has failed for good.",
    list.stores.length === 0 ? 'Service::builder("stock").on("stock.*", take).with_letters()' : "");
}

function table(app) {
  return html`<div class="scroll"><table><thead><tr><th>channel</th><th>why</th><th>at</th><th class="number">attempts</th><th class="number">age</th><th class="number">size</th><th><span class="hidden">actions</span></th></tr></thead>
    <tbody>${list.letters.map((letter) => html`<tr class=${shown?.id === letter.id ? "chosen" : ""}>
      <td><button class="link" aria-expanded=${shown?.id === letter.id} @click=${() => inspect(app, letter.id)}>${letter.channel}</button> <small>${letter.kind}</small></td>
      <td class="wrap">${badge(letter.reason.replaceAll("_", " "), "warn")} ${letter.hint}</td><td>${letter.service}</td>
      <td class="number">${count(letter.attempts)}</td><td class="number">${span(letter.age_ms / 1000)}</td><td class="number">${bytes(letter.bytes)}</td>
      <td class="row-actions"><button class="small" @click=${() => replay(app, letter)}>Replay</button>
        <button class="small danger" @click=${() => drop(app, letter)}>Drop</button></td></tr>
      ${shown?.id === letter.id ? html`<tr class="detail"><td colspan="7">${detail(shown)}</td></tr>` : nothing}`)}</tbody></table></div>`;
}

function text(letter) {
  if (letter.payload === undefined) return "too long to be shown";
  const raw = Uint8Array.from(atob(letter.payload), (character) => character.charCodeAt(0));
  try {
    const decoded = new TextDecoder("utf-8", { fatal: true }).decode(raw);
    try {
      return written(exact(decoded), 2);
    } catch {
      return decoded;
    }
  } catch {
    return `${letter.payload} (base64)`;
  }
}

function detail(letter) {
  return html`<dl><dt>letter</dt><dd><code>${letter.id}</code></dd><dt>wave</dt><dd><code>${letter.wave}</code></dd><dt>handled by</dt><dd>${letter.by}</dd>
    ${letter.key ? html`<dt>key</dt><dd>${letter.key}</dd>` : nothing}${letter.cause ? html`<dt>cause</dt><dd><code>${letter.cause}</code></dd>` : nothing}
    ${(letter.metadata ?? []).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>
    <pre tabindex="0"><code>${text(letter)}</code></pre>
    ${(letter.failed ?? []).length > 0 ? html`<ul class="chain">${letter.failed.map((attempt) => html`<li>attempt ${attempt.attempt + 1}, ${span(attempt.age_ms / 1000)} ago: ${attempt.error}</li>`)}</ul>` : nothing}`;
}
