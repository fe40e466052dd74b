// The page of the text: lines to write in, the cursors of others, and the preview.

import { ask, byId, connect, drag, drawer, element, follow, reconcile, say } from "./common.js";
import { Text, moved } from "./markdown-model.js";
import { blocks } from "./markdown-parse.js";

const { field, announce, others, onOthers } = connect("markdown", (key) => text.describe(key));
const text = new Text(field);
/** What was drawn last, and the elements by the ids of their lines. */
let shown = [];
let rows = new Map();
/** Where the cursor goes with the next drawing: `{id, at}`. */
let wanted;
let isReady = false;

const draw = drawer(() => {
  if (field.status === "connecting" && !isReady) return;
  shown = text.lines();
  rows = reconcile(byId("lines"), shown, makeLine, showLine);
  if (wanted) focus(wanted);
  wanted = undefined;
  preview(shown.map((line) => line.text));
  drawCursors();
});

field.ready().then(() => {
  isReady = true;
  draw();
});
field.on("*", draw);
field.onStatus(draw);
onOthers(drawer(drawCursors));

function makeLine({ id }) {
  const grip = element("button", { type: "button", class: "icon grip", "aria-describedby": "keys" });
  const area = element("textarea", { rows: "1", spellcheck: "false", autocomplete: "off" });
  const ghost = element("div", { class: "ghost", "aria-hidden": "true" });
  const remove = element("button", { type: "button", class: "icon" }, "×");
  const line = element("li", { class: "line" }, grip, element("div", { class: "writing" }, area, ghost), remove);
  area.addEventListener("input", (event) => {
    if (!event.isComposing) save(id, area);
  });
  area.addEventListener("compositionstart", () => (line.parts.isComposing = true));
  area.addEventListener("compositionend", () => {
    line.parts.isComposing = false;
    save(id, area);
  });
  area.addEventListener("paste", (event) => paste(event, id, area));
  area.addEventListener("keydown", (event) => keys(event, id, area));
  area.addEventListener("focus", () => here(id, area));
  area.addEventListener("blur", () => announce({}));
  // Not every browser has `selectionchange` for a textarea.
  for (const type of ["selectionchange", "keyup", "pointerup"]) area.addEventListener(type, () => document.activeElement === area && here(id, area));
  remove.addEventListener("click", () => erase(id));
  grip.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowUp" || key === "ArrowDown") shift(id, key === "ArrowUp" ? -1 : 1);
  });
  drag(grip, {
    begin: () => true,
    move(event, down) {
      follow(line, event, down);
      mark([...byId("lines").children].find((other) => other !== line && event.clientY < middle(other)) ?? null);
    },
    end(event) {
      follow(line);
      const before = mark(undefined);
      if (event && before !== undefined) text.move(id, before?.dataset.id);
    },
  });
  return Object.assign(line, { parts: { grip, area, ghost, remove, isComposing: false } });
}

function showLine(line, { id, text: now }, at) {
  line.dataset.id = id;
  const { area, isComposing } = line.parts;
  area.setAttribute("aria-label", `Line ${at + 1}`);
  line.parts.grip.setAttribute("aria-label", `Move line ${at + 1}`);
  line.parts.remove.setAttribute("aria-label", `Delete line ${at + 1}`);
  if (area.value === now || isComposing) return;
  const { value, selectionStart, selectionEnd } = area;
  area.value = now;
  // The cursor stays at the letter where it was, if somebody else changed the line.
  if (document.activeElement === area) area.setSelectionRange(moved(selectionStart, value, now), moved(selectionEnd, value, now));
  fit(area);
}

/** Browsers without `field-sizing` need the height of a long line. */
function fit(area) {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function save(id, area) {
  const now = area.value.replace(/[\r\n]+/g, " ");
  text.write(id, now);
  fit(area);
  draw();
}

function keys(event, id, area) {
  if (event.isComposing) return;
  const { key } = event;
  const { selectionStart: start, selectionEnd: end, value } = area;
  const at = shown.findIndex((line) => line.id === id);
  const isOneRow = area.clientHeight < 45;
  if (key === "Enter") {
    const last = text.paste(id, start, end, ["", ""]);
    wanted = { id: last, at: 0 };
  } else if (event.altKey && (key === "ArrowUp" || key === "ArrowDown")) {
    shift(id, key === "ArrowUp" ? -1 : 1);
  } else if (event.ctrlKey && event.shiftKey && key.toLowerCase() === "k") {
    erase(id);
  } else if (key === "Backspace" && start === 0 && end === 0 && at > 0) {
    wanted = text.join(id);
  } else if (key === "Delete" && start === value.length && end === value.length && shown[at + 1]) {
    wanted = text.join(shown[at + 1].id);
  } else if (key === "ArrowUp" && !event.shiftKey && at > 0 && (isOneRow || start === 0)) {
    focus({ id: shown[at - 1].id, at: start });
  } else if (key === "ArrowDown" && !event.shiftKey && shown[at + 1] && (isOneRow || end === value.length)) {
    focus({ id: shown[at + 1].id, at: start });
  } else {
    return;
  }
  event.preventDefault();
  // The next key is for the line that has the cursor then.
  draw.now();
}

function paste(event, id, area) {
  const texts = event.clipboardData.getData("text/plain").split(/\r\n|\r|\n/);
  if (texts.length < 2) return;
  event.preventDefault();
  const last = text.paste(id, area.selectionStart, area.selectionEnd, texts);
  wanted = { id: last, at: texts.at(-1).length };
  draw.now();
}

function shift(id, by) {
  if (text.shift(id, by)) say(`Line ${text.lines().findIndex((line) => line.id === id) + 1} of ${shown.length}.`);
  draw();
}

function erase(id) {
  const at = shown.findIndex((line) => line.id === id);
  const next = shown[at + 1] ?? shown[at - 1];
  if (next) focus({ id: next.id, at: 0 });
  else byId("add").focus();
  text.remove(id);
  say(`Deleted line ${at + 1}.`);
}

function focus({ id, at }) {
  const area = rows.get(id)?.parts.area;
  area?.focus();
  area?.setSelectionRange(at, at);
}

function middle(line) {
  const box = line.getBoundingClientRect();
  return box.top + box.height / 2;
}

let marked;

/** Shows where a line would go: before another one, or at the end (`null`). Returns where it was shown last. */
function mark(before) {
  const last = marked;
  for (const name of ["drop-before", "drop-end"]) for (const found of document.querySelectorAll(`.${name}`)) found.classList.remove(name);
  marked = before;
  if (before) before.classList.add("drop-before");
  else if (before === null) byId("lines").classList.add("drop-end");
  return last;
}

// Cursors.

function here(id, area) {
  announce({ line: id, at: area.selectionEnd });
}

function drawCursors() {
  const at = new Map();
  for (const person of others()) {
    const { line, at: place } = person.value;
    if (person.demo !== "markdown" || typeof line !== "string" || !Number.isInteger(place) || place < 0) continue;
    at.set(line, [...(at.get(line) ?? []), { ...person, at: place }]);
  }
  for (const { id, text: now } of shown) {
    const row = rows.get(id);
    const people = (at.get(id) ?? []).sort((a, b) => a.at - b.at);
    const seen = JSON.stringify([now, people.map(({ name, tone, at: place }) => [name, tone, place])]);
    if (!row || row.seen === seen || (!people.length && !row.seen)) continue;
    row.seen = people.length ? seen : "";
    let from = 0;
    const parts = people.flatMap(({ name, tone, at: place }) => {
      const to = Math.min(place, now.length);
      const before = now.slice(from, to);
      from = to;
      return [before, element("span", { class: `caret tone-${tone}` }, element("span", { class: `flag${to > 40 ? " left" : ""}` }, name))];
    });
    row.parts.ghost.replaceChildren(...(people.length ? parts : []));
    row.parts.area.setAttribute("aria-description", people.length ? `Here: ${people.map(({ name }) => name).join(", ")}` : "");
  }
}

// The preview. Elements get texts and addresses only, so nothing in a line can be markup.

function preview(lines) {
  byId("preview").replaceChildren(...blocks(lines).map((block) => {
    switch (block.type) {
      case "heading":
        // The page has headings of its own above.
        return element(`h${Math.min(6, block.level + 2)}`, {}, ...parts(block.parts));
      case "list":
        return element(block.isOrdered ? "ol" : "ul", {}, ...block.items.map((item) => element("li", {}, ...parts(item))));
      case "quote":
        return element("blockquote", {}, ...parts(block.parts));
      case "code":
        return element("pre", {}, block.text);
      case "rule":
        return element("hr");
      default:
        return element("p", {}, ...parts(block.parts));
    }
  }));
}

function parts(all) {
  return all.map((part) => {
    switch (part.type) {
      case "break":
        return element("br");
      case "code":
        return element("code", {}, part.text);
      case "strong":
      case "em":
        return element(part.type, {}, ...parts(part.parts));
      case "link":
        if (part.href === undefined) return element("span", { class: "dropped", title: "The address of this link was dropped." }, ...parts(part.parts));
        return element("a", { href: part.href, target: "_blank", rel: "noopener noreferrer" }, ...parts(part.parts));
      default:
        return part.text;
    }
  });
}

byId("add").addEventListener("click", () => {
  wanted = { id: text.insert(shown.at(-1)?.id, [""]), at: 0 };
  draw.now();
});

byId("reset").addEventListener("click", async () => {
  if (await ask("Start over?", "The lines of everybody are deleted, and the first ones come back.", "Start over")) text.reset();
});
