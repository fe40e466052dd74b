// The data of the board: columns, and cards that know their column. Nothing here knows the page.

import { List, short } from "./list.js";

export const PRIORITIES = ["low", "medium", "high"];

const COLUMNS = {
  todo: { title: "To do", order: "G" },
  doing: { title: "Doing", order: "V" },
  done: { title: "Done", order: "k" },
};
const CARDS = {
  tab: { title: "Open this page in a second window", priority: "medium", column: "todo", order: "G" },
  stop: { title: "Stop the gateway, and go on working", priority: "high", column: "todo", order: "V" },
  move: { title: "Move a card with the arrow keys", priority: "low", column: "doing", order: "V" },
  read: { title: "Open the board", priority: "low", column: "done", order: "V" },
};

export class Board {
  #field;
  #columns;
  #cards;

  constructor(field) {
    this.#field = field;
    this.#columns = new List(field, "kanban/column/", "title", COLUMNS);
    this.#cards = new List(field, "kanban/card/", "title", CARDS);
  }

  /** The columns with their cards in order; `stray` are cards whose column was deleted by somebody else meanwhile. */
  view() {
    const columns = this.#columns.items().map((column) => ({ ...column, cards: [] }));
    const byId = new Map(columns.map((column) => [column.id, column]));
    const stray = [];
    for (const card of this.#cards.items()) {
      const priority = PRIORITIES.includes(card.priority) ? card.priority : "medium";
      (byId.get(card.column)?.cards ?? stray).push({ ...card, priority });
    }
    return { columns, stray };
  }

  addColumn(title) {
    return this.#columns.add({ title });
  }

  renameColumn(id, title) {
    this.#columns.set(id, "title", title);
  }

  /** Before another column, or to the end. */
  moveColumn(id, before) {
    this.#columns.move(id, this.#columns.items(), before);
  }

  /** Deletes a column and the cards that are in it now. */
  deleteColumn(id) {
    const cards = this.#in(id);
    this.#field.batch(() => {
      for (const card of cards) this.#cards.remove(card.id);
      this.#columns.remove(id);
    });
  }

  addCard(column, title) {
    return this.#cards.add({ title, column, priority: "medium" }, this.#in(column));
  }

  renameCard(id, title) {
    this.#cards.set(id, "title", title);
  }

  setPriority(id, priority) {
    this.#cards.set(id, "priority", priority);
  }

  /** Into a column, before another card, or to the end. */
  moveCard(id, column, before) {
    this.#cards.move(id, this.#in(column), before, { column });
  }

  deleteCard(id) {
    this.#cards.remove(id);
  }

  reset() {
    this.#field.batch(() => {
      this.#cards.reset();
      this.#columns.reset();
    });
  }

  /** What a key is about, for people. */
  describe(key) {
    const [list, path] = this.#columns.read(key) ? [this.#columns, this.#columns.read(key)] : [this.#cards, this.#cards.read(key)];
    if (!path) return key;
    const [id, part] = path;
    const what = list === this.#columns ? "column" : "card";
    const title = list.item(id)?.title;
    const name = title === undefined ? `a ${what} that is not there any more` : `the ${what} “${short(title)}”`;
    return `${{ title: "the title", priority: "the priority", column: "the place", order: "the place" }[part] ?? part} of ${name}`;
  }

  #in(column) {
    return this.#cards.items().filter((card) => card.column === column);
  }
}
