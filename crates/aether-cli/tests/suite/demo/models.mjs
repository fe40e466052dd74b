// The models of the demos without a browser: indices, lists, the board, the text and what it becomes.

import assert from "node:assert/strict";
import { describe, it } from "node:test";

const from = (name) => import(new URL(`../../../../../aether-gateway/demos/${name}.js`, import.meta.url));
const { between, byIndex, indexOf } = await from("order");
const { Board } = await from("kanban-model");
const { Text, moved } = await from("markdown-model");
const { Topology } = await from("topology-model");
const { blocks, inline, safeAddress } = await from("markdown-parse");

/** A field in memory, which notes what is written. */
class Field {
  values = new Map();
  noted = [];

  entries = (pattern) => [...this.values].filter(([key]) => key.startsWith(pattern.slice(0, -1)));
  keys = (pattern) => this.entries(pattern).map(([key]) => key);
  get = (key) => this.values.get(key);
  has = (key) => this.values.has(key);
  batch = (writes) => writes();

  set(key, value) {
    this.values.set(key, value);
    this.noted.push([key, value]);
  }

  delete(key) {
    this.values.delete(key);
    this.noted.push([key]);
  }
}

/** Two fields take what the other one noted; the second one was later. */
function meet(a, b) {
  const [first, second] = [a.noted.splice(0), b.noted.splice(0)];
  for (const field of [a, b]) {
    for (const [key, value] of [...first, ...second]) {
      if (value === undefined) field.values.delete(key);
      else field.values.set(key, value);
    }
  }
}

/** Numbers from 0 to 1 that are the same in every run. */
function numbers(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const shape = (board) => board.view().columns.map(({ title, cards }) => [title, ...cards.map((card) => card.title)]);
const texts = (text) => text.lines().map((line) => line.text);

describe("models", () => {
  it("indices keep their order at 20,000 random places, and stay short at the ends", () => {
    const random = numbers(7);
    const all = [];
    for (let round = 0; round < 20_000; round += 1) {
      const at = Math.floor(random() * (Math.min(all.length, 400) + 1));
      const index = between(all[at - 1], all[at], random);
      assert.equal(indexOf(index), index);
      assert.ok(at === 0 || all[at - 1] < index, `${all[at - 1]} < ${index}`);
      assert.ok(at === all.length || index < all[at], `${index} < ${all[at]}`);
      all.splice(at, 0, index);
      if (all.length > 400) all.splice(Math.floor(random() * all.length), 1);
    }
    for (const ends of [(last) => [last, undefined], (first) => [undefined, first]]) {
      let index;
      for (let round = 0; round < 1_000; round += 1) index = between(...ends(index), random);
      assert.ok(index.length < 120, `${index.length}`);
    }
  });

  it("what is no index counts as none, and equal ones are ordered by id", () => {
    for (const wrong of [undefined, 7, "", "0", "a0", "a/b", "ä", "a".repeat(1_001)]) assert.equal(indexOf(wrong), undefined, String(wrong));
    const items = [{ id: "c", order: "B" }, { id: "b" }, { id: "a", order: "B" }, { id: "d", order: "A" }];
    assert.deepEqual(items.sort(byIndex).map(({ id }) => id), ["d", "a", "c", "b"]);
    assert.ok(between("B", "B") > "B");
  });

  it("two moves at once to one place keep both cards, and the place stays usable", () => {
    const [a, b] = [new Field(), new Field()];
    const [left, right] = [new Board(a), new Board(b)];
    left.moveCard("tab", "done", "read");
    right.moveCard("stop", "done", "read");
    meet(a, b);
    assert.deepEqual(shape(left), shape(right));
    const done = shape(left)[2];
    assert.equal(done.length, 4);
    left.moveCard("move", "done", left.view().columns[2].cards[1].id);
    assert.equal(shape(left)[2][2], "Move a card with the arrow keys");
    // The same card, to two places.
    meet(a, b);
    left.moveCard("move", "todo");
    right.moveCard("move", "doing");
    meet(a, b);
    assert.deepEqual(shape(left), shape(right));
    assert.equal(shape(left).flat().filter((title) => title === "Move a card with the arrow keys").length, 1);
  });

  it("first columns that were deleted stay deleted, and a renamed one is no other one", () => {
    const field = new Field();
    const one = new Board(field);
    one.deleteColumn("doing");
    one.renameColumn("todo", "Later");
    one.moveColumn("done", "todo");
    assert.deepEqual(shape(new Board(field)).map(([title]) => title), ["Done", "Later"]);
    const added = one.addColumn("Ideas");
    one.moveColumn(added, "todo");
    assert.deepEqual(shape(one).map(([title]) => title), ["Done", "Ideas", "Later"]);
    one.deleteColumn(added);
    assert.deepEqual(field.keys(`kanban/column/${added}/*`), []);
    one.reset();
    assert.deepEqual(shape(one).map(([title]) => title), ["To do", "Doing", "Done"]);
    assert.equal(field.values.size, 0);
  });

  it("a card in a column that somebody else deleted is not lost", () => {
    const [a, b] = [new Field(), new Field()];
    const [left, right] = [new Board(a), new Board(b)];
    left.deleteColumn("doing");
    const added = right.addCard("doing", "late");
    right.moveCard("tab", "doing");
    meet(a, b);
    assert.deepEqual(left.view().stray.map(({ title }) => title), ["late", "Open this page in a second window"]);
    left.moveCard(added, "done");
    assert.deepEqual(shape(left)[1], ["Done", "Open the board", "late"]);
  });

  it("a text loses no line to 1,000 random moves, insertions and deletions of two people", () => {
    const random = numbers(11);
    const some = (list) => list[Math.floor(random() * list.length)];
    const fields = [new Field(), new Field()];
    const people = fields.map((field) => new Text(field));
    const expected = new Set(texts(people[0]));
    for (let round = 0; round < 1_000; round += 1) {
      const person = some(people);
      const all = person.lines();
      const choice = random();
      if (choice < 0.3 || all.length < 3) {
        person.insert(some(all)?.id, [`line ${round}`]);
        expected.add(`line ${round}`);
      } else if (choice < 0.85) {
        person.move(some(all).id, some([...all, undefined])?.id);
      } else {
        const { id, text } = some(all);
        // Only one of them deletes it.
        meet(...fields);
        if (!person.lines().some((line) => line.id === id)) continue;
        person.remove(id);
        expected.delete(text);
      }
      if (random() < 0.2) meet(...fields);
    }
    meet(...fields);
    assert.deepEqual(texts(people[0]), texts(people[1]));
    assert.deepEqual(new Set(texts(people[0])), expected);
    assert.equal(texts(people[0]).length, expected.size);
  });

  it("lines are split, joined and pasted at the letter", () => {
    const text = new Text(new Field());
    text.reset();
    for (const { id } of text.lines()) text.remove(id);
    assert.deepEqual(texts(text), []);
    const first = text.insert(undefined, ["one two", "four"]);
    assert.equal(text.lines()[1].id, first);
    const [{ id }] = text.lines();
    text.paste(id, 4, 7, ["2", "3", "III "]);
    assert.deepEqual(texts(text), ["one 2", "3", "III ", "four"]);
    assert.deepEqual(text.join(first), { id: text.lines()[2].id, at: 4 });
    assert.deepEqual(texts(text), ["one 2", "3", "III four"]);
    text.paste(id, 1, 1, ["", ""]);
    assert.deepEqual(texts(text), ["o", "ne 2", "3", "III four"]);
    assert.equal(text.join(id), undefined);
    assert.equal(text.shift(id, -1), false);
    assert.equal(text.shift(id, 1), true);
    text.insert(undefined, ["top"]);
    assert.deepEqual(texts(text), ["top", "ne 2", "o", "3", "III four"]);
  });

  it("a cursor stays at its letter when somebody else changes the line", () => {
    for (const [before, now] of [["ab|cd", "xxab|cd"], ["ab|cd", "ab|cdxx"], ["ab|cd", "axb|cd"], ["ab|cd", "b|cd"], ["a|a", "a|aa"], ["a|", "a|b"], ["|a", "|b"], ["abc|", "|"], ["ab|c", "a|c"], ["ab|cd", "ab|xd"]]) {
      assert.equal(moved(before.indexOf("|"), before.replace("|", ""), now.replace("|", "")), now.indexOf("|"), `${before} ${now}`);
    }
  });

  it("values that no demo wrote break no model", () => {
    const field = new Field();
    for (const prefix of ["kanban/column/", "kanban/card/", "markdown/line/", "topology/node/", "topology/link/"]) {
      for (const rest of ["x", "x/title", "x/text/y", "x/order", "__proto__/title", "__proto__/text", "todo/__proto__", "welcome-1/__proto__", "a~b", "b~a", "a~b~c", "x/place", "x/name", "x/id"]) {
        for (const value of [{ title: "no" }, ["a"], 1e300, true, "text"]) field.set(`${prefix}${rest}`, value);
      }
    }
    for (const value of [[NaN, 0], [2, 0], [0], "a", { x: 1 }]) {
      field.set("topology/node/x/place", value);
      for (const { place } of new Topology(field).view([]).devices) assert.ok(place.every((part) => part >= 0 && part <= 1));
    }
    const board = new Board(field);
    assert.ok(shape(board).length >= 3);
    assert.ok(texts(new Text(field)).includes("# One text, many hands"));
    board.reset();
    assert.equal(field.keys("kanban/*").length, 0);
    assert.equal({}.title, undefined);
  });

  it("a map keeps who has a name, a place or a link, and links once", () => {
    const field = new Field();
    const map = new Topology(field);
    const present = ["a", "b", "c"].map((id) => ({ id, name: id.toUpperCase(), tone: 1, demo: "topology" }));
    map.link(...present.slice(0, 2));
    map.link(present[1], present[0]);
    map.link(present[0], present[0]);
    map.move("c", [7, -1]);
    const { devices, links } = map.view([]);
    assert.deepEqual(devices.map(({ id, name, isHere }) => [id, name, isHere]), [["a", "A", false], ["b", "B", false], ["c", "unnamed", false]]);
    assert.deepEqual(devices[2].place, [1, 0]);
    assert.deepEqual(links, [{ from: "a", to: "b" }]);
    map.forget("a");
    assert.deepEqual(map.view([]).links, []);
    assert.deepEqual(map.view(present).devices.map(({ id }) => id), ["a", "b", "c"]);
  });

  it("addresses with a scheme that runs something are dropped, however they are written", () => {
    const dropped = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)", "java\nscript:x", "\u0001javascript:x", "java\u0000script:x", "javascript&colon;x",
      "javascript&#58;x", "javascript&#x3A;x", "javascript&#0000058x", "&#106;avascript:x", "&amp;#106;avascript:x", "java&Tab;script:x", "java&NewLine;script:x", "javascript%3Ax", "%6Aavascript:x", "data:text/html,x", "DATA:x", "da&#116;a:x",
      "vbscript:x", "VBScript&#x3a;x", "vb\u200bscript:x", "java\u00adscript:x", "blob:x", "file:///etc/passwd", "filesystem:x", "view-source:javascript:x", "//evil.example", "\\\\evil.example", "/\\evil.example", "", " ", "javascript:https://a.example/", "%zz:x"];
    for (const address of dropped) assert.equal(safeAddress(address), undefined, JSON.stringify(address));
    for (const address of ["https://a.example/b?c=d#e", "http://a.example", "mailto:a@b.example", "#part", "/path:with", "page.html?javascript:x", "HTTPS://A.example", "https://a.example/%3A"]) assert.equal(safeAddress(address), address);
  });

  it("a line becomes a tree of texts, and a hostile one takes no time", () => {
    assert.deepEqual(inline("a **b *c*** `<i>` [d](https://e.example/(f)) \\*g* snake_case_name"), [
      { type: "text", text: "a " },
      { type: "strong", parts: [{ type: "text", text: "b *c" }] },
      { type: "text", text: "* " },
      { type: "code", text: "<i>" },
      { type: "text", text: " " },
      { type: "link", href: "https://e.example/(f)", parts: [{ type: "text", text: "d" }] },
      { type: "text", text: " *g* snake_case_name" },
    ]);
    assert.deepEqual(blocks(["# a", "b", "c", "", "- d", "- e", "1. f", "```", "<g>", "```", "> h", "---"]).map(({ type }) => type), ["heading", "paragraph", "list", "list", "code", "quote", "rule"]);
    const begin = performance.now();
    for (const bad of ["[", "`", "*", "**a ", "[a](", "[a](()", "__a", "``a`"]) blocks([bad.repeat(Math.floor(4_000 / bad.length)), bad.repeat(8_000)]);
    assert.ok(performance.now() - begin < 20_000, `${performance.now() - begin} ms`);
  });
});
