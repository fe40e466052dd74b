// Waves as they pass: a live table with filters, one wave in detail with what caused it and what it caused, and a form that
// emits and asks.

import { badge, bar, empty, html, nothing, repeat } from "./widgets.js";
import { asCommand, bytes, clock, count, isWhole, millis, plural } from "./format.js";
import { exact, written } from "./json.js";
import { firstWave } from "./first_wave.js";
import { matches } from "./channels.js";
import * as chain from "./chain.js";

const SUBSCRIPTION = 1;
/** What a person can read; the others are counted. */
const PER_SECOND = 100;
const KEPT = 2000;
const SHOWN = 100;
/** Waves are drawn together: nobody reads a table that changes with every frame. */
const PAUSE = 250;
const KINDS = ["event", "command", "query", "response", "broadcast"];

let kept = [];
const known = new Map();
let missed = 0;
/** Counts what was received: ids of waves are chosen by their sources and need not differ. */
let arrived = 0;
let drawing = 0;
let paused = null;
let chosen = null;
let refused = "";

let copied = "";
/** `rest` is what the form does not show in fields of its own, of a wave that is emitted again. */
let sending = { channel: "hello.world", kind: "event", amplitude: 0.5, key: "", payload: '{\n  "n": 1\n}', rest: {} };
let result = null;
let isForm = false;
/** The pattern of channels is that of all pages. */
const filter = { kinds: new Set(), source: "", min_amplitude: 0 };

export function open(app) {
  subscribe(app);
}

export function close(app) {
  app.link.unsubscribe(SUBSCRIPTION);
}

/** The link subscribes again by itself. */
export function back(app) {
  refused = app.link.hello?.refused ?? "";
}

export function narrowed(app) {
  forget();
  if (app.page === "waves") subscribe(app);
}

export function key(app, event) {
  if (event.key === "p") pause(app);
  if (event.key === "e") {
    isForm = !isForm;
    app.draw();
  }
}

/** Shows the waves of a channel, for example of an edge of the map. */
export function show(app, pattern, source) {
  filter.source = source;
  app.narrow(pattern);
  app.go("waves");
}

export function received(app, { id, waves, missed: more }) {
  if (id !== SUBSCRIPTION) return;
  missed += more;
  for (const wave of waves) {
    // Until the gateway has answered, waves of the filter before arrive.
    if (!fits(app, wave)) continue;
    arrived += 1;
    wave.at = arrived;
    kept.push(wave);
    known.set(wave.id, wave);
  }
  if (kept.length > KEPT) for (const old of kept.splice(0, kept.length - KEPT)) known.delete(old.id);
  drawing ||= setTimeout(() => {
    drawing = 0;
    app.draw();
  }, PAUSE);
}

function fits(app, { channel, kind, source, amplitude }) {
  const { kinds, source: wanted, min_amplitude } = filter;
  return matches(app.filter, channel) && (!kinds.size || kinds.has(kind)) && (!wanted || source === wanted) && amplitude >= min_amplitude;
}

function forget() {
  kept = [];
  known.clear();
  missed = 0;
  paused = null;
}

/** Subscribes anew. */
async function subscribe(app) {
  const { kinds, source, min_amplitude } = filter;
  try {
    await app.link.subscribe(SUBSCRIPTION, { pattern: app.filter || null, kinds: [...kinds], source: source || null, min_amplitude, per_second: PER_SECOND });
    refused = "";
  } catch (error) {
    if (app.link.state === "live") refused = error.message;
  }
  app.draw();
}

function pause(app) {
  paused = paused ? null : [...kept];
  app.draw();
}

export function draw(app) {
  const list = (paused ?? kept).slice(-SHOWN).reverse();
  return html`<div class="head"><h1>Waves</h1>
      <div class="actions">
        <button @click=${() => pause(app)} aria-pressed=${paused !== null} title="key p">${paused ? "Go on" : "Pause"}</button>
        <button @click=${() => { forget(); app.draw(); }}>Clear</button>
        <button class="primary" @click=${() => { isForm = !isForm; app.draw(); }} aria-expanded=${isForm} title="key e">Emit a wave</button>
      </div></div>
    ${app.link.hello?.refused ? tokenForm(app) : nothing}
    ${isForm ? form(app) : nothing}
    ${filters(app)}
    <div class=${chosen ? "columns wide-left" : ""}>
      <section class="card flush" aria-label="Live waves">${refused && refused !== app.link.hello?.refused ? html`<p class="padded error" role="alert">${refused}</p>` : nothing}
        ${list.length === 0 ? html`<div class="padded">${nothingYet(app)}</div>` : table(app, list)}
        <p class="note padded">${paused ? html`${badge("paused", "warn")} ` : nothing}${plural((paused ?? kept).length, "wave")} kept${missed > 0
          ? html`, <span title="At most ${PER_SECOND} a second are shown; filters show more of what you look for.">${count(missed)} not shown, as there are too many</span>` : nothing}</p></section>
      ${chosen ? inspector(app) : nothing}
    </div>`;
}

function nothingYet(app) {
  if (app.filter || filter.kinds.size > 0 || filter.source || filter.min_amplitude > 0) {
    return empty("No wave matches", "Waves that match the filter appear here as they pass.", "");
  }
  return empty("No wave yet", "Waves appear here as they pass. Emit one with the button above, or from a shell:", firstWave(app));
}

export function tokenForm(app, reason = app.link.hello.refused) {
  const use = async (event) => {
    event.preventDefault();
    try {
      await app.link.use(new FormData(event.target).get("token"));
      refused = "";
    } catch (error) {
      refused = error.message;
    }
    app.draw();
  };
  return html`<form class="card form" @submit=${use}><p>${reason}</p>
    ${app.link.locked && refused ? html`<p class="error" role="alert">${refused}</p>` : nothing}
    <div class="fields"><label>Token <input name="token" type="password" autocomplete="off" required></label>
    <button class="primary">Use the token</button></div></form>`;
}

function filters(app) {
  const narrow = (event) => app.narrow(event.target.value.trim());
  const change = (name) => (event) => {
    filter[name] = name === "min_amplitude" ? Number(event.target.value) : event.target.value.trim();
    forget();
    subscribe(app);
  };
  const toggle = (kind) => () => {
    if (!filter.kinds.delete(kind)) filter.kinds.add(kind);
    forget();
    subscribe(app);
  };
  return html`<form class="filters" role="search" @submit=${(event) => event.preventDefault()}>
    <label>Channel <input data-find name="pattern" placeholder="orders.>" spellcheck="false" autocapitalize="off" .value=${app.filter} @change=${narrow} title="For all pages (key /)"></label>
    <label>Source <input name="source" placeholder="any" spellcheck="false" autocapitalize="off" .value=${filter.source} @change=${change("source")}></label>
    <label>Amplitude from <span class="range"><input name="amplitude" type="range" min="0" max="1" step="0.05" .value=${String(filter.min_amplitude)} @change=${change("min_amplitude")}><output>${filter.min_amplitude.toFixed(2)}</output></span></label>
    <div class="segments" role="group" aria-label="Kinds">${KINDS.map(
      (kind) => html`<button type="button" aria-pressed=${filter.kinds.has(kind)} @click=${toggle(kind)}>${kind}</button>`)}</div>
  </form>`;
}

function preview(wave) {
  if (wave.json !== undefined) return written(wave.json).slice(0, 300);
  if (wave.text !== undefined) return wave.text.slice(0, 300);
  return wave.bytes === 0 ? "" : bytes(wave.bytes);
}

function content(wave) {
  return wave.json === undefined ? (wave.text ?? wave.base64 ?? "") : written(wave.json, 2);
}

function table(app, list) {
  const choose = (wave) => () => {
    if (!paused) paused = [...kept];
    choose_(app, chosen?.at === wave.at ? null : wave);
  };
  return html`<div class="scroll"><table class="waves">
    <thead><tr><th class="time">time</th><th class="channel">channel</th><th class="kind">kind</th><th class="source">source</th><th class="amplitude">amplitude</th><th class="payload">payload</th></tr></thead>
    <tbody>${repeat(list, (wave) => wave.at, (wave) => html`<tr class=${chosen?.at === wave.at ? "chosen" : ""} @click=${choose(wave)}>
      <td class="time">${clock(wave.emitted_unix_ms)}</td>
      <td class="channel"><button class="link" @click=${(event) => { event.stopPropagation(); choose(wave)(); }} title=${wave.channel}>${wave.channel}</button></td>
      <td><span class="kind ${wave.kind}">${wave.kind}</span></td><td class="source" title=${wave.source}>${wave.source}</td>
      <td class="amplitude"><span>${bar(wave.amplitude, "flow", `amplitude ${wave.amplitude}`)}${wave.amplitude}</span></td>
      <td class="payload"><code>${preview(wave)}</code></td></tr>`)}</tbody></table></div>`;
}

/** Shows one wave. The gateway is asked for those of its request. */
function choose_(app, wave) {
  chosen = wave;
  copied = "";
  if (wave) chain.ask(app, wave);
  app.draw();
}

/** A trace in another tool, where the settings of the gateway say how. */
function traceLink(app, trace) {
  const template = app.link.hello?.trace_url;
  if (!template || !/^https?:\/\//.test(template)) return nothing;
  return html` <a href=${template.replaceAll("{trace}", encodeURIComponent(trace))} target="_blank" rel="noopener noreferrer">Open the trace</a>`;
}

function inspector(app) {
  const wave = chosen;
  const copy = (text, what) => async () => {
    try {
      await navigator.clipboard.writeText(text);
      copied = `${what} copied`;
    } catch {
      copied = text; // no right to the clipboard: shown instead
    }
    app.draw();
  };
  const again = () => {
    const payload = wave.json === undefined ? "" : written(wave.json, 2);
    const { cause, phase, half_life_ms, metadata } = wave;
    const isUsual = half_life_ms === undefined || (half_life_ms === 8192 && ["event", "broadcast"].includes(wave.kind));
    const rest = { ...(cause && { cause }), ...(phase && { phase }), ...(!isUsual && { half_life_ms }),
      ...(metadata && { metadata: Object.fromEntries(metadata) }) };
    sending = { channel: wave.channel, kind: wave.kind === "response" ? "event" : wave.kind, amplitude: wave.amplitude, key: wave.key ?? "", payload, rest };
    isForm = true;
    result = null;
    app.draw();
    document.getElementById("page")?.scrollIntoView();
  };
  const line = (name, value) => (value === undefined || value === null ? nothing : html`<dt>${name}</dt><dd>${value}</dd>`);
  const trace = wave.trace?.split("-")[1] ?? wave.trace;
  const choose = (other) => choose_(app, known.get(other.id) ?? { ...other, isHead: true });
  return html`<aside class="card inspector" aria-label="One wave"><div class="head"><h2>${wave.channel}</h2>
      <button class="small" @click=${() => choose_(app, null)} aria-label="Close the wave">✕</button></div>
    ${wave.isHead ? html`<p class="note">This page has not received the wave itself, so its payload is not known here.</p>` : html`
    <div class="actions"><button ?disabled=${!isWhole(wave)} @click=${copy(asCommand(wave), "the command")}>Copy as aether emit</button>
      <button ?disabled=${!isWhole(wave)} @click=${again}>Emit again</button>
      <button @click=${() => { filter.source = ""; app.narrow(wave.channel); }}>Only this channel</button></div>`}
    ${wave.isHead || isWhole(wave) ? nothing : html`<p class="note">${wave.cut ? "The page has only the beginning of the payload" : "The payload is not JSON"}, so it cannot emit the wave again.</p>`}
    ${copied ? html`<p class="note" role="status">${copied}</p>` : nothing}
    <dl>${line("id", html`<code>${wave.id}</code>`)}${line("kind", wave.kind)}${line("source", wave.source)}
      ${line("emitted", clock(wave.emitted_unix_ms))}${line("seen after", wave.age_ms === undefined ? undefined : millis(wave.age_ms))}${line("amplitude", wave.amplitude)}
      ${wave.isHead ? nothing : line("half-life", wave.half_life_ms === undefined ? "never decays" : millis(wave.half_life_ms))}${line("key", wave.key)}
      ${line("phase", wave.phase === undefined ? undefined : Math.abs(Math.abs(wave.phase) - Math.PI) < 0.01 ? "retracts" : `${wave.phase.toFixed(2)} rad`)}
      ${line("trace", trace ? html`<button class="link" @click=${copy(trace, "the trace id")} title="Copy the trace id">${trace}</button>${traceLink(app, trace)}` : undefined)}
      ${line("type", wave.content_type)}${line("size", wave.bytes === undefined ? undefined : bytes(wave.bytes))}
      ${(wave.metadata ?? []).map(([name, value]) => line(name, value))}</dl>
    ${wave.isHead ? nothing : html`<h3>Payload</h3>${wave.bytes === 0 ? html`<p class="quiet">empty</p>`
      : html`<pre tabindex="0"><code>${content(wave)}${wave.cut ? " …" : ""}</code></pre>`}`}
    ${chain.draw(wave, known, choose)}
  </aside>`;
}

function form(app) {
  const draft = () => {
    const { channel, kind, amplitude, key, payload, rest } = sending;
    const wave = { ...rest, channel, kind, amplitude: Number(amplitude) };
    if (key) wave.key = key;
    if (payload.trim()) wave.json = exact(payload);
    return wave;
  };
  const run = async (ask) => {
    result = { text: ask ? "Waiting for the answer." : "Emitting." };
    app.draw();
    try {
      const reply = ask ? await app.link.ask({ ...draft(), kind: "query" }, 5000) : await app.link.emit(draft());
      result = ask ? { good: true, text: "Answered", wave: reply.wave }
        : { good: true, text: `Emitted as ${reply.wave}${reply.receivers === null ? "" : `, heard by ${plural(reply.receivers, "inbox", "inboxes")}`}` };
    } catch (error) {
      result = { text: error instanceof SyntaxError ? `The payload is not JSON: ${error.message}` : error.message, bad: true };
    }
    app.draw();
  };
  const set = (name) => (event) => { sending[name] = event.target.value; };
  const emits = app.link.hello?.emits !== false;
  return html`<form class="card form" id="emit" aria-label="Emit a wave" @submit=${(event) => { event.preventDefault(); run(false); }}>
    <div class="fields">
      <label>Channel <input name="channel" required spellcheck="false" autocapitalize="off" .value=${sending.channel} @input=${set("channel")}></label>
      <label>Kind <select name="kind" @change=${set("kind")}>${KINDS.filter((kind) => kind !== "response").map(
        (kind) => html`<option value=${kind} ?selected=${kind === sending.kind}>${kind}</option>`)}</select></label>
      <label>Amplitude <input name="amplitude" type="number" min="0.01" max="1" step="any" required .value=${String(sending.amplitude)} @input=${set("amplitude")}></label>
      <label>Key <input name="key" placeholder="none" spellcheck="false" .value=${sending.key} @input=${set("key")}></label>
    </div>
    ${Object.keys(sending.rest).length > 0 ? html`<p class="note" id="rest">As it was: ${restOf(sending.rest)}
      <button type="button" class="small" @click=${() => { sending = { ...sending, rest: {} }; app.draw(); }}>Leave out</button></p>` : nothing}
    <label class="wide">Payload as JSON, or empty <textarea name="payload" rows="4" spellcheck="false" .value=${sending.payload} @input=${set("payload")}></textarea></label>
    <div class="actions"><button class="primary" ?disabled=${!emits}>Emit</button>
      <button type="button" ?disabled=${!emits} @click=${() => run(true)}>Ask, and wait for the answer</button>
      ${emits ? nothing : html`<span class="quiet">This gateway emits nothing.</span>`}
      ${result ? html`<span class=${result.bad ? "error" : result.good ? "fine" : "quiet"} role="status" id="emit-result">${result.text}</span>` : nothing}</div>
    ${result?.wave ? html`<pre tabindex="0"><code>${content(result.wave)}</code></pre>` : nothing}
  </form>`;
}

function restOf({ cause, phase, half_life_ms: halfLife, metadata }) {
  return [
    cause && `caused by ${cause}`,
    phase && `phase ${phase.toFixed(2)}`,
    halfLife !== undefined && `half-life ${millis(halfLife)}`,
    metadata && Object.entries(metadata).map(([name, value]) => `${name}: ${value}`).join(", "),
  ].filter(Boolean).join("; ");
}
