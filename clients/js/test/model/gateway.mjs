// A gateway in this process, with the rules of docs/protocol/field-websocket.md: state, disk, history, connections.

const later = (a, b) => a.micros - b.micros || a.logical - b.logical || (a.writer < b.writer ? -1 : a.writer > b.writer ? 1 : 0);
const text = (stamp) => `${stamp.micros}.${stamp.logical}@${stamp.writer}`;
const read = (version) => {
  const [, micros, logical, writer] = /^(\d+)\.(\d+)@(.*)$/.exec(version);
  return { micros: Number(micros), logical: Number(logical), writer };
};

/** Registers, the sums of each client, and the additions of members. */
class State {
  registers = new Map();
  counters = new Map();
  sets = new Map();
  /** All additions that ever were. */
  tags = new Set();

  clone() {
    const copy = new State();
    copy.registers = new Map(this.registers);
    for (const [name, parts] of this.counters) copy.counters.set(name, new Map(parts));
    for (const [name, tags] of this.sets) copy.sets.set(name, new Map(tags));
    copy.tags = new Set(this.tags);
    return copy;
  }

  sum(name) {
    let sum = 0;
    for (const { up, down } of this.counters.get(name)?.values() ?? []) sum += up - down;
    return sum;
  }

  /** The newest addition of a member. */
  newest(set, member) {
    const tags = [...(this.sets.get(set)?.values() ?? [])].filter((tag) => tag.member === member);
    return tags.sort((a, b) => later(a.stamp, b.stamp)).pop()?.stamp;
  }

  /** `client`: whose part of a counter is told. */
  entry(slot, client) {
    const [kind, name, member] = slot;
    if (kind === "register") {
      const { stamp, value } = this.registers.get(name) ?? {};
      return { key: name, ...(value !== undefined && { value }), ...(stamp && { version: text(stamp) }) };
    }
    if (kind === "counter") {
      const own = this.counters.get(name)?.get(client);
      return { counter: name, sum: this.sum(name), ...(own && { own }) };
    }
    const stamp = this.newest(name, member);
    return { set: name, member, present: stamp !== undefined, ...(stamp && { version: text(stamp) }) };
  }

  slots() {
    const registers = [...this.registers].filter(([, { value }]) => value !== undefined).map(([name]) => ["register", name]);
    const counters = [...this.counters.keys()].map((name) => ["counter", name]);
    const members = [...this.sets].flatMap(([set, tags]) => [...new Set([...tags.values()].map(({ member }) => member))].map((member) => ["member", set, member]));
    return [...registers, ...counters, ...members];
  }
}

export class ModelGateway {
  state = new State();
  #disk = new State();
  #starts = 0;
  #history = [];
  #connections = new Set();
  #owed = [];
  #stood = new Set();
  isUp = true;
  /** The requests of each client by number, as they came first. */
  log = new Map();

  constructor(world) {
    this.world = world;
  }

  get #epoch() {
    return `epoch-${this.#starts}`;
  }

  connect(socket) {
    const connection = { socket, client: undefined, isSubscribed: false, queue: new Map(), snapshot: undefined, told: 0 };
    this.#connections.add(connection);
    return {
      receive: (message) => this.#receive(connection, message),
      close: () => this.#connections.delete(connection),
    };
  }

  /** As kill -9: what is not on the disk is gone. */
  crash() {
    this.isUp = false;
    for (const { socket } of this.#connections) socket.cut();
    this.#connections.clear();
    this.#owed = [];
    this.state = this.#disk.clone();
  }

  start() {
    this.isUp = true;
    this.#starts++;
    this.#history = [];
    this.#stood.clear();
  }

  #receive(connection, message) {
    const parsed = JSON.parse(message);
    for (const request of Array.isArray(parsed) ? parsed : [parsed]) this.#request(connection, request);
  }

  #request(connection, request) {
    const reply = (answer) => connection.socket.deliver(JSON.stringify(answer));
    if (request.type === "hello") {
      connection.client = request.client;
      const limits = { messages_per_second: 500, messages_burst: 20 };
      reply({ type: "hello", protocol: 1, field: "model", id: `id-${request.client}`, time: this.world.now, read: ["*"], write: ["*"], limits });
    } else if (request.type === "ping") {
      reply({ type: "pong", id: request.id, time: this.world.now });
    } else if (request.type === "subscribe") {
      this.#subscribe(connection, request, reply);
    } else if (request.op !== undefined) {
      this.#write(connection, request, reply);
    }
  }

  #subscribe(connection, { epoch, revision }, reply) {
    connection.isSubscribed = true;
    connection.queue.clear();
    const resumed = epoch === this.#epoch;
    reply({ type: "subscribed", resumed, epoch: this.#epoch, revision: resumed ? revision : this.#history.length });
    if (resumed) {
      for (const slot of this.#history.slice(revision)) connection.queue.set(slot.join(), { slot });
      this.#flushLater(connection);
    } else {
      connection.snapshot = { first: true, rest: undefined, revision: undefined };
      this.#page(connection);
    }
  }

  /** Pages are read at different moments; what changes meanwhile follows. */
  #page(connection) {
    this.world.after(this.world.random() * 20, () => {
      const { snapshot } = connection;
      if (!snapshot || !this.#connections.has(connection)) return;
      snapshot.revision ??= this.#history.length;
      snapshot.rest ??= this.state.slots();
      const slots = snapshot.rest.splice(0, 3);
      const entries = slots.map((slot) => this.state.entry(slot, connection.client)).filter((entry) => entry.value !== undefined || entry.sum !== undefined || entry.present);
      const done = !snapshot.rest.length;
      const cursor = done ? { epoch: this.#epoch, revision: snapshot.revision } : {};
      connection.socket.deliver(JSON.stringify({ type: "snapshot", first: snapshot.first, sent: 0, at_most: 0, done, ...cursor, entries }));
      snapshot.first = false;
      if (!done) return this.#page(connection);
      connection.snapshot = undefined;
      this.#flushLater(connection);
    });
  }

  #write(connection, request, reply) {
    const { op, type } = request;
    const id = `${connection.client} ${op}`;
    const same = JSON.stringify([type, request.key, request.value, request.at, request.member, request.up, request.down]);
    const known = this.log.get(id);
    if (known !== undefined && known !== same) throw new Error(`${id} was sent as ${known} and as ${same}`);
    this.log.set(id, same);
    const { version, winner, slot, changed } = this.#apply(request, connection.client);
    reply({ type: "ack", op, version: text(version) });
    if (winner && !this.#stood.has(id)) reply(winner);
    else if (!winner) this.#stood.add(id);
    if (changed) this.world.after(this.world.random() * 3, () => this.#push(slot, this.#starts));
    if (request.durable) this.#sync(connection, op);
  }

  #apply(request, client) {
    const { type, op, key, value, member, replaces } = request;
    const made = { micros: Math.round(request.at * 1000), logical: op, writer: this.world.writer(client) };
    if (type === "count") {
      const parts = this.state.counters.get(key) ?? new Map();
      this.state.counters.set(key, parts);
      const part = parts.get(client) ?? { up: 0, down: 0 };
      const next = { up: Math.max(part.up, request.up), down: Math.max(part.down, request.down) };
      parts.set(client, next);
      return { version: made, slot: ["counter", key], changed: next.up !== part.up || next.down !== part.down };
    }
    if (member !== undefined) return this.#member(request, made);
    const current = this.state.registers.get(key);
    const own = current?.stamp.writer === made.writer ? current.stamp : undefined;
    if (own && own.logical >= op) return { version: own.logical === op ? own : made, slot: ["register", key], changed: false };
    const stamp = { ...made };
    if (own) stamp.micros = Math.max(stamp.micros, own.micros);
    if (replaces) stamp.micros = Math.max(stamp.micros, read(replaces).micros + 1);
    if (current && later(stamp, current.stamp) < 0) {
      const by = text(current.stamp);
      const winner = { type: "superseded", key, version: text(stamp), lost: value, ...(current.value !== undefined && { value: current.value }), by };
      return { version: stamp, winner, slot: ["register", key], changed: false };
    }
    if (current && current.stamp.writer !== made.writer && replaces !== text(current.stamp)) this.#lost(key, current, stamp, value);
    this.state.registers.set(key, { stamp, value: type === "set" ? value : undefined });
    return { version: stamp, slot: ["register", key], changed: true };
  }

  /** Tells the loser, if it is here. */
  #lost(key, { stamp, value }, by, winner) {
    for (const { socket, client } of this.#connections) {
      if (client === undefined || this.world.writer(client) !== stamp.writer) continue;
      socket.deliver(JSON.stringify({ type: "superseded", key, version: text(stamp), lost: value, ...(winner !== undefined && { value: winner }), by: text(by) }));
    }
  }

  #member({ type, key, member, replaces }, made) {
    const tags = this.state.sets.get(key) ?? new Map();
    this.state.sets.set(key, tags);
    const slot = ["member", key, member];
    const before = tags.size;
    if (type === "insert") {
      // One that comes again, although it was removed since, must not come back.
      if (this.state.tags.has(`${key} ${text(made)}`)) return { version: made, slot, changed: false };
      this.state.tags.add(`${key} ${text(made)}`);
      for (const [id, tag] of tags) if (tag.member === member && tag.stamp.writer === made.writer && later(tag.stamp, made) < 0) tags.delete(id);
      tags.set(text(made), { member, stamp: made });
      return { version: made, slot, changed: true };
    }
    const seen = replaces ? read(replaces) : undefined;
    for (const [id, tag] of tags) {
      if (tag.member !== member) continue;
      const isSeen = tag.stamp.writer === made.writer ? tag.stamp.logical < made.logical : seen !== undefined && later(tag.stamp, seen) <= 0;
      if (isSeen) tags.delete(id);
    }
    const still = this.state.newest(key, member);
    const winner = still && { type: "superseded", set: key, member, version: text(made), by: text(still) };
    return { version: made, winner, slot, changed: tags.size !== before };
  }

  #push(slot, starts) {
    if (!this.isUp || starts !== this.#starts) return;
    this.#history.push(slot);
    const entry = this.state.entry(slot);
    for (const connection of this.#connections) {
      if (!connection.isSubscribed) continue;
      const { snapshot } = connection;
      // Not begun: the snapshot will have it. Begun: it is read again when it is sent.
      if (snapshot && snapshot.rest === undefined) continue;
      connection.queue.set(slot.join(), snapshot ? { slot } : { slot, entry });
      this.#flushLater(connection);
    }
  }

  #flushLater(connection) {
    const revision = this.#history.length;
    this.world.after(this.world.random() * 3, () => {
      if (!this.#connections.has(connection) || connection.snapshot || !connection.queue.size) return;
      const entries = [...connection.queue.values()].map(({ slot, entry }) => {
        const now = this.state.entry(slot, connection.client);
        return now.own ? now : (entry ?? now);
      });
      connection.queue.clear();
      connection.socket.deliver(JSON.stringify({ type: "changes", epoch: this.#epoch, revision: Math.max(revision, this.#history.length), entries }));
    });
  }

  /** Everything that is there after a while is on the disk. */
  #sync(connection, op) {
    this.#owed.push({ connection, op });
    if (this.#owed.length > 1) return;
    const starts = this.#starts;
    // A slow disk leaves several writes of a name acknowledged and not kept.
    const slow = this.world.random() < 0.2 ? 400 : 20;
    this.world.after(2 + this.world.random() * slow, () => {
      if (!this.isUp || starts !== this.#starts) return;
      this.#disk = this.state.clone();
      for (const { connection, op } of this.#owed.splice(0)) {
        if (this.#connections.has(connection)) connection.socket.deliver(JSON.stringify({ type: "durable", op }));
      }
    });
  }
}
