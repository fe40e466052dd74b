// The page of the map: it draws what the model has, and tells it what the user does.

import { ask, byId, connect, drag, drawer, element, reconcile, say, toneName, tones, write } from "./common.js";
import { GATEWAY, Topology } from "./topology-model.js";

const BOX = { width: 124, height: 44 };
const LETTERS = 15;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PLACES = { topology: "on the map", kanban: "at the board", markdown: "at the text" };

const { field, own, rename, others, onOthers, drawPeople } = connect("topology", (key) => topology.describe(key));
const topology = new Topology(field);
const svg = byId("map");
const [wires, nodes] = [element("g"), element("g")];
svg.append(wires, nodes);
/** What was drawn last. */
let shown = { gateway: undefined, devices: [], links: [] };
/** The device that a link begins at. */
let from;
/** A place that the pointer holds and that is not written yet. */
let held;
let size = { width: 600, height: 400 };

const draw = drawer(() => {
  shown = topology.view([{ ...own, isOwn: true, demo: "topology" }, ...others()]);
  if (from && !find(from)) from = undefined;
  drawMap();
  drawLists();
});

field.on("*", () => {
  takeOwn();
  draw();
});
field.onStatus(draw);
onOthers(draw);
new ResizeObserver(([{ contentRect }]) => {
  size = { width: contentRect.width, height: contentRect.height };
  draw();
}).observe(svg);
field.ready().then(takeOwn);

const isOnline = () => field.status === "online";
const find = (id) => (id === GATEWAY ? shown.gateway : shown.devices.find((device) => device.id === id));
const nameOf = (id) => find(id)?.name ?? "a device that is gone";

/** Where a device is: on the map, in full, in pixels. */
function point({ id, place: [x, y] }) {
  const at = held?.id === id ? held.place : [x, y];
  const [wide, high] = [BOX.width + 12, BOX.height + 12];
  return [wide / 2 + at[0] * Math.max(0, size.width - wide), high / 2 + at[1] * Math.max(0, size.height - high)];
}

function share(x, y) {
  const [wide, high] = [BOX.width + 12, BOX.height + 12];
  return [(x - wide / 2) / Math.max(1, size.width - wide), (y - high / 2) / Math.max(1, size.height - high)].map((part) => Math.min(1, Math.max(0, part)));
}

function about(device) {
  if (device.id === GATEWAY) return isOnline() ? "connected" : "out of reach";
  if (device.isOwn) return "this tab";
  return device.isHere ? PLACES[device.demo] : "away";
}

function drawMap() {
  const { gateway, devices, links } = shown;
  const here = devices.filter(({ isHere }) => isHere && isOnline());
  const lines = [
    ...here.map(({ id }) => ({ id: `wire ${id}`, from: id, to: GATEWAY, isWire: true })),
    ...links.map((link) => ({ ...link, id: `link ${link.from} ${link.to}` })),
  ].filter((line) => find(line.from) && find(line.to));
  reconcile(wires, lines, makeLine, (line, { from: begin, to: end }) => {
    const [[x1, y1], [x2, y2]] = [point(find(begin)), point(find(end))];
    for (const stroke of line.querySelectorAll("line")) for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) stroke.setAttribute(name, value.toFixed(1));
    if (line.hasAttribute("tabindex")) line.setAttribute("aria-label", `Link of ${nameOf(begin)} and ${nameOf(end)}. Delete takes it off.`);
  });
  reconcile(nodes, [gateway, ...devices], makeNode, showNode);
}

function makeLine({ from: begin, to: end, isWire }) {
  if (isWire) return element("g", {}, element("line", { class: "wire" }));
  const line = element("g", { class: "link", tabindex: "0", role: "button" }, element("line", { class: "tie" }), element("line", { class: "touch" }));
  line.addEventListener("keydown", (event) => {
    if (!["Delete", "Backspace"].includes(event.key)) return;
    event.preventDefault();
    byId("map").querySelector(`[data-id="${CSS.escape(begin)}"]`)?.focus();
    unlink(begin, end);
  });
  return line;
}

function makeNode({ id }) {
  const { width, height } = BOX;
  const node = element("g", { class: "device", tabindex: "0", role: "button", "data-id": id },
    element("rect", { x: -width / 2, y: -height / 2, width, height, rx: 9 }),
    element("circle", { class: "bullet", cx: -width / 2 + 14, cy: -7, r: 5 }),
    element("text", { x: -width / 2 + 25, y: -2.5 }),
    " ",
    element("text", { class: "sub", x: -width / 2 + 25, y: 13 }));
  node.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (step && !event.altKey && !event.ctrlKey && !event.metaKey) {
      const [x, y] = point(find(id));
      const far = event.shiftKey ? 40 : 8;
      move(id, share(x + step[0] * far, y + step[1] * far));
      say(`${nameOf(id)} moved.`);
    } else if (event.key === "Enter" || event.key === " ") choose(id);
    else if (event.key === "Escape") choose(undefined);
    else if (event.key === "Delete" || event.key === "Backspace") forget(id);
    else return;
    event.preventDefault();
  });
  let grabbed;
  node.addEventListener("click", () => choose(id));
  drag(node, {
    begin(event) {
      const box = svg.getBoundingClientRect();
      const [x, y] = point(find(id));
      grabbed = [x - event.clientX + box.left, y - event.clientY + box.top];
      return true;
    },
    move(event) {
      const box = svg.getBoundingClientRect();
      held = { id, place: share(event.clientX - box.left + grabbed[0], event.clientY - box.top + grabbed[1]) };
      follow();
    },
    end(event) {
      const last = held;
      held = undefined;
      if (event && last) move(id, last.place);
      draw();
    },
  });
  return node;
}

/** Others see a device move, too. */
const follow = drawer(() => {
  if (!held) return;
  move(held.id, held.place);
  draw();
});

function showNode(node, device) {
  const [x, y] = point(device);
  const isGateway = device.id === GATEWAY;
  const isAway = isGateway ? !isOnline() : !device.isHere;
  node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  node.setAttribute("class", `device tone-${isGateway ? 0 : device.tone}${isGateway ? " gateway" : ""}${isAway ? " away" : ""}${device.isOwn ? " own" : ""}${from === device.id ? " from" : ""}`);
  node.setAttribute("aria-label", `${device.name}, ${about(device)}${from === device.id ? ", a link begins here" : ""}`);
  node.setAttribute("aria-pressed", String(from === device.id));
  const [name, sub] = node.querySelectorAll("text");
  write(name, device.name.length > LETTERS ? `${device.name.slice(0, LETTERS - 1)}…` : device.name);
  write(sub, about(device));
}

function drawLists() {
  const { devices, links } = shown;
  reconcile(byId("devices"), [shown.gateway, ...devices], makeRow, showRow);
  reconcile(byId("links"), links.map((link) => ({ ...link, id: `${link.from}~${link.to}` })), ({ from: begin, to: end }) => {
    const remove = element("button", { type: "button", class: "icon" }, "×");
    remove.addEventListener("click", () => {
      const row = remove.closest("li");
      ((row.nextElementSibling ?? row.previousElementSibling)?.querySelector("button") ?? byId("reset")).focus();
      unlink(begin, end);
    });
    return element("li", { class: "row" }, element("span", { class: "what" }), remove);
  }, (row, { from: begin, to: end }) => {
    write(row.firstElementChild, `${nameOf(begin)} – ${nameOf(end)}`);
    row.lastElementChild.setAttribute("aria-label", `Take off the link of ${nameOf(begin)} and ${nameOf(end)}`);
  });
  byId("no-links").hidden = links.length > 0;
}

function makeRow({ id }) {
  const link = element("button", { type: "button", class: "small" });
  link.addEventListener("click", () => choose(id));
  const remove = element("button", { type: "button", class: "icon" }, "×");
  remove.addEventListener("click", () => {
    link.closest("li").previousElementSibling?.querySelector("button").focus();
    forget(id);
  });
  const what = element("span", { class: "what" }, element("span"), " ", element("small"));
  return Object.assign(element("li", { class: "row" }, element("span", { class: "dot", "aria-hidden": "true" }), what, link, remove), { parts: { what, link, remove } });
}

function showRow(row, device) {
  const isGateway = device.id === GATEWAY;
  row.className = `row tone-${isGateway ? 0 : device.tone} ${isGateway || device.isHere ? "" : "away"}`;
  write(row.parts.what.firstElementChild, device.name);
  write(row.parts.what.lastElementChild, about(device));
  const isFrom = from === device.id;
  row.parts.link.setAttribute("aria-pressed", String(isFrom));
  write(row.parts.link, from === undefined || isFrom ? "Link" : "Link to this");
  row.parts.link.setAttribute("aria-label", from === undefined || isFrom ? `Link ${device.name}` : `Link ${nameOf(from)} to this: ${device.name}`);
  row.parts.remove.hidden = isGateway || device.isHere;
  row.parts.remove.setAttribute("aria-label", `Take ${device.name} off the map`);
}

// What the user does.

function move(id, place) {
  topology.move(id, place);
}

/** Begins a link, ends it at another device, or gives it up. */
function choose(id) {
  if (id === undefined || from === id) from = undefined;
  else if (from === undefined) {
    from = id;
    say(`A link begins at ${nameOf(id)}. Choose another device, or press Escape.`);
  } else {
    topology.link(find(from), find(id));
    say(`${nameOf(from)} and ${nameOf(id)} are linked.`);
    from = undefined;
  }
  draw();
}

function unlink(begin, end) {
  topology.unlink(begin, end);
  say(`${nameOf(begin)} and ${nameOf(end)} are no longer linked.`);
}

function forget(id) {
  const device = find(id);
  if (id === GATEWAY || device.isHere) return say(`${device.name} is here, so it stays.`);
  nodes.querySelector(`[data-id="${CSS.escape(own.id)}"]`)?.focus();
  topology.forget(id);
  say(`${device.name} is off the map.`);
}

/** The name and the colour of this tab that the field has, which may come from before a reload. */
function takeOwn() {
  const { name = own.name, tone = own.tone } = topology.own(own.id);
  if (name === own.name && tone === own.tone) return;
  rename({ name, tone });
  drawPeople();
  showOwn();
}

function showOwn() {
  if (document.activeElement !== byId("name")) byId("name").value = own.name;
  for (const input of byId("tones").querySelectorAll("input")) input.checked = Number(input.value) === own.tone;
}

function saveName() {
  const name = byId("name").value.trim();
  if (!name) byId("name").value = own.name;
  else if (name !== own.name) topology.rename(own.id, name);
}

byId("tones").append(...tones.map((_, tone) => {
  const input = element("input", { type: "radio", name: "tone", value: tone, "aria-label": toneName(tone) });
  input.addEventListener("change", () => topology.paint(own.id, tone));
  return element("label", { class: `swatch tone-${tone}`, title: toneName(tone) }, input);
}));
byId("name").addEventListener("change", saveName);
byId("own").addEventListener("submit", (event) => {
  event.preventDefault();
  saveName();
});
addEventListener("keydown", (event) => event.key === "Escape" && choose(undefined));
byId("reset").addEventListener("click", async () => {
  if (await ask("Clear the map?", "The names, places and links of everybody are deleted. Who is here stays.", "Clear the map")) topology.reset();
});
showOwn();
draw();
