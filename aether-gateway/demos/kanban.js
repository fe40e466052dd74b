// The page of the board: it draws what the model has, and tells it what the user does.

import { ask, byId, connect, drag, drawer, editable, element, follow, keepFocus, reconcile, say, write } from "./common.js";
import { Board, PRIORITIES } from "./kanban-model.js";

const STRAY = "stray";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const { field } = connect("kanban", (key) => board.describe(key));
const board = new Board(field);
/** What was drawn last. */
let shown = { columns: [], stray: [] };
/** The elements of the cards, which they take along to other columns. */
const cards = new Map();

const draw = drawer(() => {
  shown = board.view();
  const { columns, stray } = shown;
  // A column of their own, which nobody can delete: these cards are not to be overlooked.
  const all = stray.length ? [{ id: STRAY, title: "Without a column", cards: stray }, ...columns] : columns;
  // Before the board is read, its first columns may have been deleted long ago.
  if (field.status === "connecting" && !isReady) return;
  keepFocus(() => reconcile(byId("board"), all, makeColumn, showColumn));
  const present = new Set(all.flatMap((column) => column.cards.map(({ id }) => id)));
  for (const id of cards.keys()) if (!present.has(id)) cards.delete(id);
});
let isReady = false;
field.ready().then(() => {
  isReady = true;
  draw();
});
field.on("*", draw);
field.onStatus(draw);

function makeColumn({ id }) {
  const list = element("ol", { class: "card-list" });
  if (id === STRAY) {
    const head = element("div", { class: "column-head" }, element("h2", {}, "Without a column"), element("span", { class: "count" }));
    const note = element("p", { class: "note" }, "The column of these cards was deleted meanwhile. Move them to another one.");
    const section = element("section", { class: "column stray", "aria-label": "Without a column" }, head, note, list);
    return Object.assign(section, { parts: { list } });
  }
  const title = editable("Title of the column", (text) => board.renameColumn(id, text));
  const grip = gripOf((by) => moveColumn(by, id), () => askColumn(id));
  const remove = element("button", { type: "button", class: "icon" }, "×");
  remove.addEventListener("click", () => deleteColumn(id));
  const head = element("div", { class: "column-head" }, grip, element("h2", {}, title), element("span", { class: "count" }), remove);
  const input = element("input", { placeholder: "New card", autocomplete: "off" });
  const form = element("form", { class: "adding" }, input, element("button", { type: "submit" }, "Add"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    board.addCard(id, text);
    input.value = "";
    say(`Added “${text}”.`);
  });
  const section = element("section", { class: "column" }, head, list, form);
  drag(grip, {
    begin: () => true,
    move(event, down) {
      follow(section, event, down);
      const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".column:not(.stray)");
      mark(over && over !== section ? columnMark(over, event) : undefined);
    },
    end(event) {
      follow(section);
      const target = mark();
      if (event && target) board.moveColumn(id, target.before);
    },
  });
  return Object.assign(section, { parts: { list, title, grip, remove, input } });
}

function showColumn(section, { id, title, cards: own }) {
  section.dataset.id = id;
  write(section.querySelector(".count"), String(own.length));
  if (id !== STRAY) {
    section.setAttribute("aria-label", title);
    section.parts.title.show(title);
    section.parts.grip.setAttribute("aria-label", `Move the column ${title}`);
    section.parts.remove.setAttribute("aria-label", `Delete the column ${title}`);
    section.parts.input.setAttribute("aria-label", `New card in ${title}`);
  }
  reconcile(section.parts.list, own, (card) => cards.get(card.id) ?? makeCard(card), showCard);
}

function makeCard({ id }) {
  const title = editable("Title of the card", (text) => board.renameCard(id, text));
  const grip = gripOf((by) => moveCard(by, id), () => askCard(id));
  const priority = element("select", {}, ...PRIORITIES.map((name) => element("option", { value: name }, { low: "Low", medium: "Medium", high: "High" }[name])));
  priority.addEventListener("change", () => board.setPriority(id, priority.value));
  const remove = element("button", { type: "button", class: "icon" }, "×");
  remove.addEventListener("click", () => deleteCard(id));
  const item = element("li", { class: "item" }, element("div", { class: "item-row" }, grip, title), element("div", { class: "item-row" }, priority, remove));
  drag(item, {
    // A finger scrolls the page, unless it is on the handle.
    begin: ({ target, pointerType }) => target.closest(".grip") !== null || (pointerType === "mouse" && !target.closest("input, select, .icon")),
    move(event, down) {
      follow(item, event, down);
      const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".column:not(.stray)");
      mark(over ? cardMark(over, item, event) : undefined);
    },
    end(event) {
      follow(item);
      const target = mark();
      if (event && target) place(id, target.column, target.before);
    },
  });
  cards.set(id, item);
  return Object.assign(item, { parts: { title, grip, priority, remove } });
}

function showCard(item, { id, title, priority }) {
  item.dataset.id = id;
  for (const name of PRIORITIES) item.classList.toggle(name, name === priority);
  item.parts.title.show(title);
  item.parts.grip.setAttribute("aria-label", `Move the card ${title}`);
  item.parts.remove.setAttribute("aria-label", `Delete the card ${title}`);
  item.parts.priority.setAttribute("aria-label", `Priority of ${title}`);
  if (item.parts.priority.value !== priority) item.parts.priority.value = priority;
}

/** A handle: arrows move, Enter or a click asks. */
function gripOf(move, open) {
  const grip = element("button", { type: "button", class: "icon grip", "aria-describedby": "keys" });
  grip.addEventListener("keydown", (event) => {
    if (!ARROWS[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(ARROWS[event.key]);
  });
  grip.addEventListener("click", open);
  return grip;
}

// Where something would be dropped.

let marked;

function mark(target) {
  const last = marked;
  for (const name of ["drop-before", "drop-end", "target"]) for (const found of document.querySelectorAll(`.${name}`)) found.classList.remove(name);
  marked = target;
  target?.element.classList.add(target.name);
  target?.section?.classList.add("target");
  return last;
}

function columnMark(over, { clientX, clientY }) {
  const box = over.getBoundingClientRect();
  // Columns of a phone are below each other.
  const isBefore = innerWidth < 620 ? clientY < box.top + box.height / 2 : clientX < box.left + box.width / 2;
  const next = isBefore ? over : over.nextElementSibling;
  return { element: next ?? over, name: next ? "drop-before" : "drop-end", before: next?.dataset.id };
}

function cardMark(over, item, { clientY }) {
  const next = [...over.parts.list.children].filter((card) => card !== item).find((card) => {
    const box = card.getBoundingClientRect();
    return clientY < box.top + box.height / 2;
  });
  return { element: next ?? over.parts.list, name: next ? "drop-before" : "drop-end", section: over, column: over.dataset.id, before: next?.dataset.id };
}

// What the user does. Models and messages name things by their ids, as others may have changed everything meanwhile.

function find(id) {
  for (const column of [...shown.columns, { id: STRAY, title: "Without a column", cards: shown.stray }]) {
    const at = column.cards.findIndex((card) => card.id === id);
    if (at >= 0) return { card: column.cards[at], column, at };
  }
  return undefined;
}

function place(id, column, before) {
  board.moveCard(id, column, before);
  shown = board.view();
  const found = find(id);
  if (found) say(`“${found.card.title}” is in ${found.column.title}, ${found.at + 1} of ${found.column.cards.length}.`);
  draw();
}

function moveCard([across, down], id) {
  const found = find(id);
  if (!found) return;
  const { column, at } = found;
  if (across) {
    const columns = shown.columns;
    const from = columns.findIndex((other) => other.id === column.id);
    const to = columns[from < 0 ? 0 : from + across];
    if (to) place(id, to.id, to.cards[at]?.id);
    else say("There is no column further on.");
  } else if (column.id !== STRAY) {
    const to = at + down;
    if (to < 0 || to >= column.cards.length) return say("It is at the end of the column.");
    place(id, column.id, down < 0 ? column.cards[to].id : column.cards[to + 1]?.id);
  }
}

function moveColumn([across, down], id) {
  const at = shown.columns.findIndex((column) => column.id === id);
  const to = at + (across || down);
  if (at < 0 || to < 0 || to >= shown.columns.length) return say("It is the last column on this side.");
  board.moveColumn(id, to < at ? shown.columns[to].id : shown.columns[to + 1]?.id);
  say(`${shown.columns[at].title} is column ${to + 1} of ${shown.columns.length}.`);
}

function askCard(id) {
  const found = find(id);
  if (!found) return;
  const columns = element("select", {}, ...shown.columns.map((column) => element("option", { value: column.id }, column.title)));
  if (found.column.id !== STRAY) columns.value = found.column.id;
  const places = element("select");
  const fill = () => {
    const others = (shown.columns.find((column) => column.id === columns.value)?.cards ?? []).filter((card) => card.id !== id);
    places.replaceChildren(...others.map((card, at) => element("option", { value: card.id }, `${at + 1}, before ${card.title}`)), element("option", { value: "" }, `${others.length + 1}, at the end`));
    places.value = "";
  };
  columns.addEventListener("change", fill);
  fill();
  choose(`Move “${found.card.title}”`, [["Column", columns], ["Place", places]], () => place(id, columns.value, places.value || undefined));
}

function askColumn(id) {
  const title = shown.columns.find((column) => column.id === id)?.title ?? "";
  const others = shown.columns.filter((column) => column.id !== id);
  const places = element("select", {}, ...others.map((column) => element("option", { value: column.id }, `before ${column.title}`)), element("option", { value: "" }, "at the end"));
  choose(`Move the column “${title}”`, [["Place", places]], () => board.moveColumn(id, places.value || undefined));
}

function choose(title, fields, done) {
  const labels = fields.map(([name, select]) => element("label", {}, name, select));
  const actions = element("div", { class: "actions" }, element("button", { type: "submit" }, "Move"), element("button", { type: "button" }, "Cancel"));
  const form = element("form", {}, element("h2", { id: "choose-title" }, title), element("div", { class: "fields" }, ...labels), actions);
  const dialog = element("dialog", { "aria-labelledby": "choose-title" }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    done();
  });
  form.querySelector("button[type=button]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Where the keyboard goes on after the deletion of what it was at. */
function focusAfter(gone, fallback) {
  const next = gone.nextElementSibling ?? gone.previousElementSibling;
  (next?.querySelector(".grip") ?? fallback)?.focus();
}

function deleteCard(id) {
  const found = find(id);
  if (!found) return;
  const item = byId("board").querySelector(`.item[data-id="${CSS.escape(id)}"]`);
  const input = item.closest(".column").parts.input;
  focusAfter(item, input);
  board.deleteCard(id);
  say(`Deleted “${found.card.title}”.`);
}

async function deleteColumn(id) {
  const column = shown.columns.find((one) => one.id === id);
  const many = column.cards.length;
  const what = many === 1 ? "its card" : `its ${many} cards`;
  if (many && !(await ask(`Delete “${column.title}”?`, `The column and ${what} are deleted for everybody.`, `Delete the column and ${what}`))) return;
  focusAfter(byId("board").querySelector(`.column[data-id="${CSS.escape(id)}"]`), byId("column-title"));
  board.deleteColumn(id);
  say(`Deleted the column “${column.title}”.`);
}

byId("add-column").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("column-title").value.trim();
  if (!text) return;
  board.addColumn(text);
  byId("column-title").value = "";
  say(`Added the column “${text}”.`);
});

byId("reset").addEventListener("click", async () => {
  if (await ask("Reset the board?", "All columns and cards of everybody are deleted, and the first ones come back.", "Reset the board")) board.reset();
});
