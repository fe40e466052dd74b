// Where the map has its boxes and lines: from left to right, and at the same place while only rates change.

import dagre from "./vendor/dagre.js";

/** The smallest height of a box, and the room for each line that ends at it. */
const HEIGHT = 38;
const PORT = 11;
const LETTER = 7.3;
const LONGEST = 28;

let layout = null;
let shape = "";

export function cut(name) {
  return name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
}

/**
 * Boxes and lines with their places, and the size of all. Nodes have an `id`, edges `id`, `from` and `to`. Boxes are placed anew
 * only if there are other nodes or edges, in whichever order they come. An edge that `isLoose` moves no box: guesses come and go.
 */
export function placed({ nodes, edges }, isNarrow) {
  const all = { nodes: [...nodes].sort(byId), edges: [...edges].sort(byId) };
  const firm = all.edges.filter((edge) => !edge.isLoose);
  const now = JSON.stringify([isNarrow, all.nodes.map((node) => node.id), firm.map((edge) => edge.id)]);
  if (now !== shape) {
    layout = laidOut({ nodes: all.nodes, edges: firm }, isNarrow);
    shape = now;
  }
  const lines = new Map([...layout.lines, ...all.edges.filter((edge) => edge.isLoose).map((edge) => [edge.id, loose(edge, layout.boxes)])]);
  return { ...layout, lines };
}

/** A line that belongs to no place: straight to the next column, or around the edge of its own. */
function loose({ from, to }, boxes) {
  const [begin, end] = [boxes.get(from), boxes.get(to)];
  if (!begin || !end) return undefined;
  const start = { x: begin.x + begin.width / 2, y: begin.y + begin.height / 4 };
  const isAhead = end.x - end.width / 2 > begin.x + begin.width / 2;
  const tip = { x: end.x + (isAhead ? -0.5 : 0.5) * end.width, y: end.y + end.height / 4 };
  return { start, tip, between: [], way: isAhead ? 1 : -1, isAround: !isAhead };
}

function byId(a, b) {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function laidOut({ nodes, edges }, isNarrow) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "LR", nodesep: 14, edgesep: 12, ranksep: isNarrow ? 44 : 76, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  const [inward, outward] = [new Map(), new Map()];
  for (const edge of edges) {
    inward.set(edge.to, (inward.get(edge.to) ?? 0) + 1);
    outward.set(edge.from, (outward.get(edge.from) ?? 0) + 1);
  }
  for (const { id, name } of nodes) {
    const lines = Math.max(inward.get(id) ?? 0, outward.get(id) ?? 0);
    graph.setNode(id, { width: Math.max(84, cut(name).length * LETTER + 28), height: Math.max(HEIGHT, lines * PORT + 6) });
  }
  for (const { id, from, to } of edges) graph.setEdge(from, to, {}, id);
  dagre.layout(graph);
  const boxes = new Map(nodes.map(({ id }) => [id, graph.node(id)]));
  const lines = new Map();
  for (const { id, from, to } of edges) {
    const { points } = graph.edge({ v: from, w: to, name: id });
    const [begin, end] = [boxes.get(from), boxes.get(to)];
    // To the next column it goes straight. A line against the flow leaves a box at its left and enters one at its right.
    const between = points.length > 3 ? points.slice(1, -1) : [];
    lines.set(id, { begin, end, between, way: end.x >= begin.x ? 1 : -1 });
  }
  ports(boxes, lines);
  const { width, height } = graph.graph();
  return { width, height, boxes, lines };
}

/** Each line gets a place of its own at its boxes, in the order of where the lines come from, so that none cross there. */
function ports(boxes, lines) {
  const sides = new Map();
  const at = (box, side, line, end, towards) => {
    const sidesOfBox = sides.get(box) ?? sides.set(box, { left: [], right: [] }).get(box);
    sidesOfBox[side].push({ line, end, towards });
  };
  for (const line of lines.values()) {
    const first = line.between[0] ?? line.end;
    const last = line.between.at(-1) ?? line.begin;
    at(line.begin, line.way > 0 ? "right" : "left", line, "start", first.y);
    at(line.end, line.way > 0 ? "left" : "right", line, "tip", last.y);
  }
  for (const [box, bothSides] of sides) {
    for (const [side, all] of Object.entries(bothSides)) {
      all.sort((a, b) => a.towards - b.towards);
      const step = Math.min(PORT + 3, (box.height - 10) / Math.max(1, all.length - 1));
      all.forEach(({ line, end }, place) => {
        line[end] = { x: box.x + (side === "right" ? 0.5 : -0.5) * box.width, y: box.y + (place - (all.length - 1) / 2) * step };
      });
    }
  }
}

/** A smooth line that leaves and enters horizontally; its tip has room for an arrow of this length. */
export function path({ start, tip, between, way, isAround }, arrow) {
  if (isAround) {
    const out = Math.max(start.x, tip.x) + 46;
    return `M${start.x.toFixed(1)} ${start.y.toFixed(1)}C${out} ${start.y.toFixed(1)} ${out} ${tip.y.toFixed(1)} ${(tip.x + arrow).toFixed(1)} ${tip.y.toFixed(1)}`;
  }
  const points = [start, ...between, { x: tip.x - way * arrow, y: tip.y }];
  let d = `M${start.x.toFixed(1)} ${start.y.toFixed(1)}`;
  for (let at = 1; at < points.length; at += 1) {
    const [from, to] = [points[at - 1], points[at]];
    const middle = ((from.x + to.x) / 2).toFixed(1);
    d += `C${middle} ${from.y.toFixed(1)} ${middle} ${to.y.toFixed(1)} ${to.x.toFixed(1)} ${to.y.toFixed(1)}`;
  }
  return d;
}

/** The tip of a line: a triangle of this length and width. */
export function arrow({ tip: { x, y }, way }, length, width) {
  const back = (x - way * length).toFixed(1);
  return `M${x.toFixed(1)} ${y.toFixed(1)}L${back} ${(y - width / 2).toFixed(1)}L${back} ${(y + width / 2).toFixed(1)}z`;
}
