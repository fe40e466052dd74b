// What caused a wave and what it caused: the waves of its request, as the gateway saw them and as this page did.

import { html, nothing } from "./widgets.js";
import { clock, plural } from "./format.js";

/** How many effects of one wave are listed, and how deep. */
const MOST = 30;
const DEEPEST = 12;
/** The effects of a young wave come after it. */
const YOUNG = 2000;
const LATER = 1500;

let answer = null;
let turn = 0;

/** Asks the gateway for the request of a wave; once more a moment later if it may go on. */
export function ask(app, wave) {
  turn += 1;
  const mine = turn;
  answer = { id: wave.id, waves: [], error: "", more: false };
  const read = async () => {
    let next;
    try {
      const { waves, more } = await app.link.fetch(`/api/waves/${encodeURIComponent(wave.id)}/chain`);
      next = { id: wave.id, waves, more, error: "" };
    } catch (failed) {
      next = { ...answer, error: failed.message };
    }
    if (mine !== turn) return;
    answer = next;
    app.draw();
  };
  read();
  if (Date.now() - wave.emitted_unix_ms < YOUNG) setTimeout(() => mine === turn && read(), LATER);
}

/** Both directions. `known` are the waves that the page has, by id; `choose` shows another wave. */
export function draw(wave, known, choose) {
  const all = new Map(known);
  for (const head of answer?.id === wave.id ? answer.waves : []) if (!all.has(head.id)) all.set(head.id, head);
  const caused = new Map();
  for (const other of all.values()) if (other.cause && other.cause !== other.id) caused.set(other.cause, [...(caused.get(other.cause) ?? []), other]);
  const effects = ({ id }) => caused.get(id) ?? [];
  const [before, after] = [causes(wave, all), effects(wave)];
  const step = (other) => (other.channel
    ? html`<button class="link" @click=${() => choose(other)}>${other.channel}</button> <span class="quiet">${other.source}, ${clock(other.emitted_unix_ms)}</span>`
    : html`<span class="quiet">${other.id}, which nobody kept</span>`);
  const tree = (list, depth) => (list.length === 0 || depth > DEEPEST ? nothing
    : html`<ul class="chain">${list.slice(0, MOST).map((other) => html`<li>${step(other)}${tree(effects(other), depth + 1)}</li>`)}
      ${list.length > MOST ? html`<li class="quiet">and ${plural(list.length - MOST, "more wave")}</li>` : nothing}</ul>`);
  return html`<h3>Caused by</h3>${before.length === 0 ? html`<p class="quiet">nothing: it began a request</p>` : html`<ol class="chain">${before.map((other) => html`<li>${step(other)}</li>`)}</ol>`}
    <h3>Caused</h3>${after.length === 0 ? html`<p class="quiet">nothing that was seen</p>` : tree(after, 1)}
    ${answer?.error ? html`<p class="note">Only what this page has received: ${answer.error}</p>` : nothing}
    ${answer?.more ? html`<p class="note">The request has more waves than are listed.</p>` : nothing}`;
}

/** The waves that lead to this one, the first one first. */
function causes(wave, all) {
  const chain = [];
  const seen = new Set([wave.id]);
  for (let at = wave.cause; at && !seen.has(at) && chain.length < MOST; at = all.get(at)?.cause) {
    seen.add(at);
    chain.unshift(all.get(at) ?? { id: at });
  }
  return chain;
}
