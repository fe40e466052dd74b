// The data of the map: the devices that are here or were here, where they stand, and the links between them. Nothing here
// knows the page.

const ID = /^[\w-]{1,64}$/;
export const GATEWAY = "gateway";
const NODE = "topology/node/";
const LINK = "topology/link/";
/** Places around the gateway, for devices that nobody has moved. */
const SLOTS = 10;

export class Topology {
  #field;

  constructor(field) {
    this.#field = field;
  }

  /**
   * `present` are the devices that are here, `[{id, name, tone, demo}]`. A device that is away stays on the map if it has a name
   * of its own, a place or a link. Places are shares of the map, from 0 to 1.
   */
  view(present) {
    const here = new Map(present.map((device) => [device.id, device]));
    const known = new Map();
    for (const [key, value] of this.#field.entries(`${NODE}*`)) {
      const [id, part, ...rest] = key.slice(NODE.length).split("/");
      if (!ID.test(id) || rest.length || !["name", "tone", "place"].includes(part)) continue;
      known.set(id, { ...known.get(id), [part]: value });
    }
    const links = this.#links();
    const ids = new Set([...here.keys(), ...known.keys(), ...links.flatMap(({ from, to }) => [from, to])]);
    ids.delete(GATEWAY);
    const taken = new Set();
    const devices = [...ids].sort().map((id) => {
      const [device, state] = [here.get(id), known.get(id) ?? {}];
      const name = textOf(state.name) ?? device?.name ?? "unnamed";
      const tone = toneOf(state.tone) ?? device?.tone ?? 0;
      const place = placeOf(state.place) ?? slot(id, taken);
      return { id, name, tone, place, isHere: device !== undefined, isOwn: device?.isOwn === true, demo: device?.demo };
    });
    const gateway = { id: GATEWAY, name: "Gateway", place: placeOf(known.get(GATEWAY)?.place) ?? [0.5, 0.5] };
    return { gateway, devices, links };
  }

  rename(id, name) {
    this.#field.set(`${NODE}${id}/name`, name);
  }

  paint(id, tone) {
    this.#field.set(`${NODE}${id}/tone`, tone);
  }

  /** The name and the tone that a device has given itself. */
  own(id) {
    return { name: textOf(this.#field.get(`${NODE}${id}/name`)), tone: toneOf(this.#field.get(`${NODE}${id}/tone`)) };
  }

  move(id, [x, y]) {
    const share = (value) => Math.round(Math.min(1, Math.max(0, value)) * 10_000) / 10_000;
    this.#field.set(`${NODE}${id}/place`, [share(x), share(y)]);
  }

  /** Links two devices, and keeps what they look like, for the time when they are away. */
  link(from, to) {
    if (from.id === to.id) return;
    this.#field.batch(() => {
      this.#field.set(linkKey(from.id, to.id), true);
      for (const { id, name, tone } of [from, to]) {
        if (id === GATEWAY) continue;
        if (!this.#field.has(`${NODE}${id}/name`)) this.rename(id, name);
        if (!this.#field.has(`${NODE}${id}/tone`)) this.paint(id, tone);
      }
    });
  }

  unlink(from, to) {
    this.#field.delete(linkKey(from, to));
  }

  /** Takes a device off the map, and its links. One that is here stays, without name and place. */
  forget(id) {
    this.#field.batch(() => {
      for (const key of this.#field.keys(`${NODE}${id}/*`)) this.#field.delete(key);
      for (const { from, to } of this.#links()) if (from === id || to === id) this.unlink(from, to);
    });
  }

  reset() {
    this.#field.batch(() => this.#field.keys("topology/*").forEach((key) => this.#field.delete(key)));
  }

  describe(key) {
    if (key.startsWith(LINK)) return "a link";
    const [id, part] = key.slice(NODE.length).split("/");
    const name = id === GATEWAY ? "the gateway" : textOf(this.#field.get(`${NODE}${id}/name`)) ?? "a device";
    return `${{ name: "the name", tone: "the colour", place: "the place" }[part] ?? key} of ${name}`;
  }

  #links() {
    return this.#field.keys(`${LINK}*`).sort().flatMap((key) => {
      const [from, to, ...rest] = key.slice(LINK.length).split("~");
      return ID.test(from) && ID.test(to ?? "") && from < to && !rest.length ? [{ from, to }] : [];
    });
  }
}

function linkKey(a, b) {
  const [from, to] = [a, b].sort();
  return `${LINK}${from}~${to}`;
}

function textOf(value) {
  return typeof value === "string" && value.trim() ? value.slice(0, 200) : undefined;
}

function toneOf(value) {
  return Number.isInteger(value) && value >= 0 && value < 8 ? value : undefined;
}

function placeOf(value) {
  const isPlace = Array.isArray(value) && value.length === 2 && value.every((part) => Number.isFinite(part) && part >= 0 && part <= 1);
  return isPlace ? value : undefined;
}

/** The first free place from the one that belongs to the id; the same for all who see the same devices. */
function slot(id, taken) {
  let hash = 0;
  for (const letter of id) hash = (hash * 31 + letter.codePointAt(0)) % 9_973;
  let at = hash % SLOTS;
  while (taken.has(at) && taken.size < SLOTS) at = (at + 1) % SLOTS;
  taken.add(at);
  const angle = (at / SLOTS) * 2 * Math.PI - Math.PI / 2;
  return [0.5 + 0.38 * Math.cos(angle), 0.5 + 0.38 * Math.sin(angle)];
}
