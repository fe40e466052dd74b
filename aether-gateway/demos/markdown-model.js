// The data of the text: one key for each line, and one for its place. Nothing here knows the page.

import { List, short } from "./list.js";

const WELCOME = [
  "# One text, many hands",
  "Each line is a key of the field. Two people can write in **two lines at once**, also offline.",
  "",
  "- Enter begins a new line, and Backspace at its beginning joins it to the one before.",
  "- Alt and an arrow key move a line.",
  "- `**bold**`, `*italic*`, `` `code` `` and [links](https://example.com/) work.",
];
const LINES = Object.fromEntries(WELCOME.map((text, at) => [`welcome-${at + 1}`, { text, order: "GOVckr"[at] }]));

export class Text {
  #field;
  #lines;

  constructor(field) {
    this.#field = field;
    this.#lines = new List(field, "markdown/line/", "text", LINES);
  }

  /** `[{id, text}]` in order. */
  lines() {
    return this.#lines.items();
  }

  write(id, text) {
    this.#lines.set(id, "text", text);
  }

  /** Puts lines after another one, or in front of all. Returns the id of the last. */
  insert(after, texts) {
    let last = after;
    this.#field.batch(() => {
      for (const text of texts) {
        const lines = this.lines();
        const at = lines.findIndex(({ id }) => id === last);
        last = this.#lines.add({ text }, lines, last === undefined ? lines[0]?.id : lines[at + 1]?.id);
      }
    });
    return last;
  }

  /** Replaces the letters from `from` to `to` of a line with several lines. Returns the id of the last. */
  paste(id, from, to, texts) {
    const { text } = this.#lines.item(id);
    const [first, ...more] = texts;
    let last = id;
    this.#field.batch(() => {
      if (!more.length) return this.write(id, text.slice(0, from) + first + text.slice(to));
      this.write(id, text.slice(0, from) + first);
      last = this.insert(id, [...more.slice(0, -1), more.at(-1) + text.slice(to)]);
    });
    return last;
  }

  /** Joins a line to the one before. Returns where: `{id, at}`. */
  join(id) {
    const lines = this.lines();
    const at = lines.findIndex((line) => line.id === id);
    const before = lines[at - 1];
    if (!before) return undefined;
    this.#field.batch(() => {
      this.write(before.id, before.text + lines[at].text);
      this.#lines.remove(id);
    });
    return { id: before.id, at: before.text.length };
  }

  /** Before another line, or to the end. */
  move(id, before) {
    this.#lines.move(id, this.lines(), before);
  }

  /** One line up or down. */
  shift(id, by) {
    const lines = this.lines();
    const at = lines.findIndex((line) => line.id === id);
    const to = at + by;
    if (at < 0 || to < 0 || to >= lines.length) return false;
    this.move(id, by < 0 ? lines[to].id : lines[to + 1]?.id);
    return true;
  }

  remove(id) {
    this.#lines.remove(id);
  }

  reset() {
    this.#lines.reset();
  }

  describe(key) {
    const [id, part] = this.#lines.read(key) ?? [];
    const text = id === undefined ? undefined : this.#lines.item(id)?.text;
    const line = text === undefined ? "a line that is not there any more" : `the line “${short(text)}”`;
    return part === "order" ? `the place of ${line}` : line;
  }
}

/** Where a place in `before` is in `now`. */
export function moved(at, before, now) {
  let same = 0;
  while (same < Math.min(before.length, now.length) && before[same] === now[same]) same += 1;
  if (at <= same) return at;
  let end = 0;
  while (end < Math.min(before.length, now.length) - same && before.at(-1 - end) === now.at(-1 - end)) end += 1;
  return at >= before.length - end ? at + now.length - before.length : Math.min(at, now.length - end);
}
