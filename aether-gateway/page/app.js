// The frame of the pages: navigation, the state of the connection, keys, and drawing when something has changed.

import { History } from "./history.js";
import { Link } from "./link.js";
import { html, isCalm, nothing, render } from "./widgets.js";
import { plural, rate, span, unready } from "./format.js";
import * as confirm from "./confirm.js";
import * as help from "./help.js";
import * as overview from "./overview.js";
import * as spectrum from "./spectrum.js";
import * as waves from "./waves.js";
import * as map from "./map.js";
import * as incidents from "./incidents.js";
import * as services from "./services.js";
import * as ledger from "./ledger.js";
import * as letters from "./letters.js";
import * as queues from "./queues.js";
import * as durable from "./durable.js";

const PAGES = [
  ["overview", "Overview", overview],
  ["spectrum", "Spectrum", spectrum],
  ["waves", "Waves", waves],
  ["map", "Map", map],
  ["incidents", "Incidents", incidents],
  ["services", "Services", services],
  ["ledger", "Ledger", ledger],
  ["letters", "Dead letters", letters],
  ["queues", "Queues", queues],
  ["durable", "Durable", durable],
];

const link = new Link();
const main = document.getElementById("main");
const top = document.getElementById("top");

/** What the pages read. `filter` is a channel that was clicked or a pattern of some: it narrows every page. */
const app = {
  link,
  views: {},
  missed: 0,
  history: new History(),
  filter: "",
  notice: "",
  page: "overview",
  go,
  narrow,
  tell,
  draw: schedule,
};

let drawn = false;
let due = false;
/** The page whose link the navigation was scrolled to: on a phone it is wider than the screen. */
let scrolledTo = "";

/** Draws with the next frame; any number of calls draw once. A hidden page is not drawn until somebody looks at it. */
function schedule() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    draw();
  });
}

function current() {
  return PAGES.find(([name]) => name === app.page) ?? PAGES[0];
}

function draw() {
  // What stands there until the scripts are loaded.
  if (!drawn) [top, main].forEach((element) => element.replaceChildren());
  drawn = true;
  render(frame(), top);
  if (scrolledTo !== app.page) {
    scrolledTo = app.page;
    top.querySelector("nav a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }
  const [, title, page] = current();
  document.title = `${title} · Aether`;
  render(html`${banner()}<div class="page" id="page">${link.locked ? locked() : content(page)}</div>${confirm.dialog(app)}${help.dialog(app, PAGES)}`, main);
  if (!link.locked) page.after?.(app);
  confirm.after();
  help.after();
}

/** The gateway shows nothing without a token. */
function locked() {
  return html`<h1>A token is needed</h1>${waves.tokenForm(app, link.locked)}`;
}

/** A page that cannot be drawn says so and leaves the others alone. */
function content(page) {
  try {
    return page.draw(app);
  } catch (error) {
    console.error(error);
    return html`<p class="card error" role="alert">This page could not be drawn: ${String(error)}</p>`;
  }
}

function frame() {
  const state = status();
  return html`<div class="bar">
      <a class="brand" href="#overview"><svg viewBox="0 0 32 32" aria-hidden="true"><path
        d="M2 17c3.300 0 3.300-9 7-9s3.500 16 7 16 3.500-16 7-16 3.700 9 7 9"/></svg>Aether</a>
      <nav aria-label="Pages"><ul>${PAGES.map(
        ([name, title], at) => html`<li><a href="#${name}" aria-current=${name === app.page ? "page" : nothing}
          title="${title} (key ${help.keyOf(at)})">${title}</a></li>`,
      )}</ul></nav>
      ${app.filter
        ? html`<button class="chip" @click=${() => narrow("")} title="Show all channels again (key Esc)">
            <span class="chip-text">${app.filter}</span> <span aria-hidden="true">✕</span><span class="hidden">remove the filter</span></button>`
        : nothing}
      <button class="small round" @click=${() => help.show(app)} title="Keys (key ?)" aria-label="Keys">?</button>
      <p class="state ${state.tone}" role="status" id="state"><span class="dot" aria-hidden="true"></span>${state.text}</p>
    </div>`;
}

function status() {
  const view = app.views.overview;
  if (link.state === "away") return { tone: "bad", text: "gateway away" };
  if (link.locked) return { tone: "wait", text: "a token is needed" };
  if (link.state === "connecting" || !view) return { tone: "wait", text: "connecting" };
  const trouble = unready(view);
  if (trouble) return { tone: "bad", text: trouble.word };
  return { tone: "good", text: `live · ${rate(app.history.now("waves"))}/s` };
}

function banner() {
  const view = app.views.overview;
  if (link.state === "away") {
    return html`<div class="banner bad" role="alert"><strong>The gateway is away</strong> since
      ${span((performance.now() - link.since) / 1000)}. What you see is from before. The page connects again by itself.
      <button class="small" @click=${() => link.hurry()}>Try now</button></div>`;
  }
  const trouble = view && !link.locked ? unready(view) : null;
  if (trouble) return html`<div class="banner bad" role="alert"><strong>${trouble.title}</strong> ${trouble.text}</div>`;
  if (app.notice) {
    return html`<div class="banner" role="status">${app.notice}
      <button class="small" @click=${() => tell("")}>Close</button></div>`;
  }
  if (app.missed > 0) {
    return html`<div class="banner" role="status">This page was too slow for ${plural(app.missed, "update")}.
      <button class="small" @click=${() => { app.missed = 0; schedule(); }}>Close</button></div>`;
  }
  return nothing;
}

function go(page) {
  location.hash = page;
}

/** Narrows every page to a channel or a pattern, or shows all again. */
function narrow(channel) {
  app.filter = channel;
  for (const [, , page] of PAGES) page.narrowed?.(app);
  schedule();
}

function tell(text) {
  app.notice = text;
  schedule();
}

function turn() {
  const before = current()[2];
  app.page = PAGES.find(([name]) => name === location.hash.slice(1))?.[0] ?? "overview";
  const [, , page] = current();
  if (before !== page || !drawn) {
    before.close?.(app);
    confirm.forget();
    app.notice = "";
    page.open?.(app);
    if (drawn) window.scrollTo({ top: 0, behavior: isCalm() ? "auto" : "instant" });
  }
  schedule();
}

link.addEventListener("state", () => {
  if (link.state === "live") {
    if (!link.locked) app.history.load(app);
    current()[2].back?.(app);
  }
  schedule();
});
link.addEventListener("view", ({ detail }) => {
  app.views[detail.view] = detail.data;
  app.missed += detail.missed;
  if (detail.view === "overview") app.history.add(detail.data);
  schedule();
});
link.addEventListener("waves", ({ detail }) => waves.received(app, detail));

addEventListener("hashchange", turn);
addEventListener("online", () => link.hurry());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) link.hurry();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schedule);
// The time since the gateway went away.
setInterval(() => link.state === "away" && schedule(), 1000);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const page = PAGES.find((_, at) => help.keyOf(at) === event.key);
  if (page) {
    go(page[0]);
  } else if (event.key === "Escape" && app.filter) {
    narrow("");
  } else if (event.key === "?") {
    help.show(app);
  } else if (event.key === "/") {
    const field = document.querySelector("[data-find]");
    if (!field) return;
    field.focus();
    field.select();
  } else {
    current()[2].key?.(app, event);
    return;
  }
  event.preventDefault();
});

link.watch("overview");
link.connect();
turn();
