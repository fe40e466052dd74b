// What the demos have in common: the connection, who else is here, messages, and small helpers for elements.

import "./pages.js";
import { newId, short } from "./list.js";

const DEMOS = { topology: "the map", kanban: "the board", markdown: "the text" };
const TONES = ["blue", "teal", "green", "olive", "orange", "red", "purple", "brown"];
const ANIMALS = ["heron", "otter", "lynx", "finch", "badger", "hare", "newt", "owl", "seal", "wren", "stoat", "carp"];
const MOST_NOTICES = 4;
const MOST_PEOPLE = 50;

/** Connects a page to the field `demo`. `describe` says what a key is about. */
export function connect(demo, describe) {
  const client = globalThis.AetherClient;
  if (!client) {
    byId("banner").textContent = "The client is not there. Start the demos with aether demo, and load this page again.";
    throw new Error("/client/aether-client.min.js did not load");
  }
  const problem = ({ code, message }) => code === "storage" && notice("warn", "This browser keeps no data here: changes are lost when the page is closed.", message);
  const field = watched(client.connect("/field/demo/ws", { patterns: [`${demo}/*`], onError: problem }));
  const own = ownDevice();
  const showState = () => state(field);
  field.onStatus(showState);
  field.onPending(showState);
  showState();
  field.onRefused(({ key, value, message }) => notice("bad", `Not saved: ${describe(key)}.`, `${sentence(message)}${typeof value === "string" ? ` It was “${short(value)}”.` : ""}`));
  field.onSuperseded(({ key, lost, value }) => {
    const [mine, theirs] = /\/(title|text|name|priority)$/.test(key) ? [said(lost), said(value)] : [];
    notice("warn", `Somebody else changed ${describe(key)} at the same time.`, mine && theirs ? `Yours was ${mine}; now it is ${theirs}.` : mine ? `Yours was ${mine}.` : "Theirs counts.");
  });
  let extra = {};
  const announce = (more = extra) => {
    extra = more;
    field.presence.set({ ...extra, demo, id: own.id, name: own.name, tone: own.tone });
  };
  announce();
  return { field, own, announce, rename: (changes) => rename(own, changes, announce), ...people(field, own) };
}

/**
 * A field whose page asks before it is left while writes are not in the storage of this browser yet, which takes milliseconds. Where
 * a browser has no storage, that is until the gateway has them.
 */
function watched(field) {
  let unkept = 0;
  const count = (by) => {
    unkept += by;
    document.documentElement.toggleAttribute("data-unkept", unkept > 0);
  };
  const write = (made) => {
    const done = () => count(-1);
    count(1);
    made.kept.then(done, done);
    return made;
  };
  addEventListener("beforeunload", (event) => unkept && event.preventDefault());
  return new Proxy(field, {
    get(target, name) {
      const found = target[name];
      if (typeof found !== "function") return found;
      return ["set", "delete", "batch"].includes(name) ? (...given) => write(found.apply(target, given)) : found.bind(target);
    },
  });
}

/** The others: `others()` gives `[{id, name, tone, demo, value}]`, none while there is no connection. */
function people(field, own) {
  const others = () => {
    if (field.status !== "online") return [];
    const known = new Map();
    for (const value of field.presence.others().values()) {
      if (typeof value !== "object" || value === null || !/^[\w-]{1,64}$/.test(value.id) || !Object.hasOwn(DEMOS, value.demo)) continue;
      const name = typeof value.name === "string" && value.name.trim() ? value.name.slice(0, 40) : "unnamed";
      if (value.id !== own.id && known.size < MOST_PEOPLE) known.set(value.id, { id: value.id, name, tone: TONES[value.tone] ? value.tone : 0, demo: value.demo, value });
    }
    return [...known.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  };
  const onOthers = (callback) => {
    field.presence.on(callback);
    field.onStatus(callback);
  };
  const draw = () => {
    const list = [{ ...own, name: `${own.name} (this tab)` }, ...others()];
    reconcile(byId("people"), list, () => element("li", { class: "person" }, element("span", { class: "dot", "aria-hidden": "true" }), element("span")), (item, person) => {
      item.className = `person tone-${person.tone}`;
      write(item.lastChild, person.demo && person.demo !== document.body.dataset.demo ? `${person.name}, at ${DEMOS[person.demo]}` : person.name);
    });
  };
  onOthers(draw);
  draw();
  return { others, onOthers, drawPeople: draw };
}

export const toneName = (tone) => TONES[tone] ?? TONES[0];
export const tones = TONES;

/** Who this tab is. A second tab that the browser made as a copy of this one is somebody else. */
function ownDevice() {
  const number = crypto.getRandomValues(new Uint8Array(2));
  const tone = number[0] % TONES.length;
  let own = { id: newId(), tone, name: `${TONES[tone][0].toUpperCase()}${TONES[tone].slice(1)} ${ANIMALS[number[1] % ANIMALS.length]}` };
  const keep = () => stored((storage) => storage.setItem("aether-demo", JSON.stringify(own)));
  const take = () => stored((storage) => {
    const kept = JSON.parse(storage.getItem("aether-demo") ?? "null");
    // A copy of this tab finds nothing.
    storage.removeItem("aether-demo");
    if (typeof kept?.id === "string" && typeof kept.name === "string" && TONES[kept.tone]) own = kept;
  });
  take();
  addEventListener("pagehide", keep);
  addEventListener("pageshow", ({ persisted }) => persisted && stored((storage) => storage.removeItem("aether-demo")));
  return own;
}

/** Without storage, each page is a device of its own. */
function stored(use) {
  try {
    use(sessionStorage);
  } catch {
    // Nothing is kept.
  }
}

function rename(own, changes, announce) {
  Object.assign(own, changes);
  announce();
}

/** The state of the connection, and what waits for it. */
function state(field) {
  const { status, pending } = field;
  const texts = { online: "Connected", connecting: "Connecting", offline: "Offline", denied: "No access", closed: "Closed" };
  byId("state").className = `state ${{ online: "good", offline: "bad", denied: "bad" }[status] ?? ""}`;
  write(byId("state").lastElementChild, pending && status === "online" ? `Saving ${pending}` : texts[status]);
  const changes = pending === 1 ? "1 change waits" : `${pending} changes wait`;
  const waits = pending ? `${changes} in this browser and ${pending === 1 ? "is" : "are"} sent when the gateway is back.` : "You can go on: changes are kept in this browser until the gateway is back.";
  const text = { offline: `Offline. ${waits}`, denied: "The gateway gives no access to the field of the demos." }[status];
  // The attempts in between are not news.
  if (status === "online" || text) {
    const banner = byId("banner");
    if (!text) banner.replaceChildren();
    else if (banner.firstElementChild) write(banner.firstElementChild, text);
    else {
      const retry = element("button", { type: "button", class: "small" }, "Try now");
      retry.addEventListener("click", () => field.retry());
      banner.replaceChildren(element("span", {}, text), retry);
    }
    banner.className = `banner ${status === "online" ? "" : "bad"}`;
  }
}

/** Tells the user something that stays until it is dismissed. */
export function notice(tone, title, more = "") {
  const list = byId("notices");
  // Several keys may be about one thing.
  for (const item of list.children) if (item.firstElementChild.textContent === `${title} ${more}`) item.remove();
  const close = element("button", { type: "button", class: "small" }, "Dismiss");
  const item = element("li", { class: `banner ${tone}` }, element("span", {}, element("strong", {}, title), ` ${more}`), close);
  close.addEventListener("click", () => {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    (next?.querySelector("button") ?? byId("main")).focus();
  });
  list.append(item);
  while (list.children.length > MOST_NOTICES) list.firstElementChild.remove();
}

/** Says something to readers of the screen. */
export function say(text) {
  byId("said").textContent = text;
}

/** Asks before something is deleted. */
export function ask(title, text, verb) {
  const yes = element("button", { type: "button", class: "danger" }, verb);
  const no = element("button", { type: "button" }, "Cancel");
  no.autofocus = true;
  const dialog = element("dialog", { "aria-labelledby": "ask-title" }, element("h2", { id: "ask-title" }, title), element("p", {}, text), element("div", { class: "actions" }, yes, no));
  document.body.append(dialog);
  return new Promise((resolve) => {
    let answer = false;
    yes.addEventListener("click", () => {
      answer = true;
      dialog.close();
    });
    no.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
  });
}

/** A text that is edited in its place: a button that becomes an input. `label` names what it is. */
export function editable(label, save) {
  const box = element("span", { class: "editable" });
  const button = element("button", { type: "button", class: "title" });
  box.append(button);
  let text = "";
  const edit = () => {
    const input = element("input", { type: "text", "aria-label": label, autocomplete: "off" });
    const before = text;
    input.value = text;
    let done = false;
    const end = (keeps, focuses) => {
      if (done) return;
      done = true;
      const now = input.value.trim();
      box.replaceChildren(button);
      if (focuses) button.focus();
      if (keeps && now && now !== before) save(now);
    };
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      event.stopPropagation();
      if (event.key !== "Enter" && event.key !== "Escape") return;
      // The key does not press the button, which gets the focus.
      event.preventDefault();
      end(event.key === "Enter", true);
    });
    input.addEventListener("blur", () => !placing && end(true, false));
    box.replaceChildren(input);
    input.focus();
    input.select();
  };
  button.addEventListener("click", edit);
  box.show = (now) => {
    text = now;
    write(button, now);
    button.setAttribute("aria-label", `${label}: ${now}. Press to change it.`);
  };
  return box;
}

/**
 * Drags with a mouse, a pen or a finger. `begin(event)` says whether it may begin, `move(event)` follows, `end(event)` drops;
 * `end()` without an event: it was given up.
 */
export function drag(handle, { begin, move, end }) {
  handle.addEventListener("pointerdown", (down) => {
    if (down.button !== 0 || !down.isPrimary || !begin(down)) return;
    const stop = new AbortController();
    const { signal } = stop;
    let moved = false;
    const finish = (event) => {
      stop.abort();
      if (!moved) return;
      // The click that only ends the drag.
      const next = new AbortController();
      const once = { capture: true, once: true, signal: next.signal };
      addEventListener("click", (click) => click.detail && click.stopPropagation(), once);
      for (const type of ["pointerdown", "keydown"]) addEventListener(type, () => next.abort(), once);
      end(event);
    };
    addEventListener("pointermove", (event) => {
      if (event.pointerId !== down.pointerId) return;
      moved ||= Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > 4;
      if (!moved) return;
      event.preventDefault();
      move(event, down);
    }, { signal });
    addEventListener("pointerup", (event) => event.pointerId === down.pointerId && finish(event), { signal });
    addEventListener("pointercancel", (event) => event.pointerId === down.pointerId && finish(), { signal });
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      finish();
    }, { signal });
  });
}

/** Lets an element follow the pointer; without an event it goes back. */
export function follow(target, event, down) {
  target.classList.toggle("dragged", event !== undefined);
  target.style.transform = event ? `translate(${event.clientX - down.clientX}px, ${event.clientY - down.clientY + scrollY - down.pageY + down.clientY}px)` : "";
  if (!event) return;
  const edge = 56;
  if (event.clientY < edge) scrollBy(0, -14);
  else if (event.clientY > innerHeight - edge) scrollBy(0, 14);
}

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = new Set(["svg", "g", "rect", "line", "circle", "text", "path"]);

/** An element with attributes and children. Texts stay texts. */
export function element(tag, attributes = {}, ...children) {
  const made = SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Sets a text only if it is another one, so that readers of the screen do not say it again. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Elements are being put in order: what loses the focus gets it back. */
let placing = 0;

/** Draws, and what had the focus has it afterwards, wherever it is then. */
export function keepFocus(draw) {
  const focused = document.activeElement;
  placing += 1;
  try {
    draw();
    if (focused !== document.activeElement && focused?.isConnected && focused !== document.body) focused.focus({ preventScroll: true });
  } finally {
    placing -= 1;
  }
}

const known = new WeakMap();

/** Makes the children of `parent` those of `items`, by id: it makes, updates, moves and removes elements, and keeps the focus. */
export function reconcile(parent, items, make, update) {
  const before = known.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [item.id, before.get(item.id) ?? make(item)]));
  known.set(parent, now);
  keepFocus(() => {
    // It may be somewhere else by now.
    for (const [id, child] of before) if (!now.has(id) && child.parentNode === parent) child.remove();
    items.forEach((item, at) => {
      const child = now.get(item.id);
      if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
      update?.(child, item, at);
    });
  });
  return now;
}

/** Draws with the next frame, however many changes come before it; `now()` draws at once. */
export function drawer(draw) {
  let waits = false;
  const now = () => {
    waits = false;
    draw();
  };
  const later = () => {
    if (waits) return;
    waits = true;
    // A page that is not shown has no frames.
    const next = document.hidden ? queueMicrotask : requestAnimationFrame;
    next(() => waits && now());
  };
  return Object.assign(later, { now });
}

function sentence(text) {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}

function said(value) {
  return typeof value === "string" ? `“${short(value)}”` : undefined;
}
