// A field and a bus in memory, in place of the client: the tests decide when something is ready, confirmed, or comes from elsewhere.
export const opened = [];

class Emitter {
  #callbacks = new Set();
  get size() {
    return this.#callbacks.size;
  }
  on = (callback) => {
    const own = (...values) => callback(...values);
    this.#callbacks.add(own);
    return () => this.#callbacks.delete(own);
  };
  emit(...values) {
    for (const callback of [...this.#callbacks]) callback(...values);
  }
}

const matches = (pattern, key) => (pattern.endsWith("*") ? key.startsWith(pattern.slice(0, -1)) : key === pattern);

export class FakeField {
  values = new Map();
  sums = new Map();
  sets = new Map();
  participants = new Map();
  announced = [];
  writes = [];
  status = "connecting";
  closed = false;
  changes = new Emitter();
  counts = new Emitter();
  memberships = new Emitter();
  presences = new Emitter();
  statuses = new Emitter();
  pendings = new Emitter();
  refusals = new Emitter();
  losses = new Emitter();
  #ready = Promise.withResolvers ? Promise.withResolvers() : deferred();

  constructor(values = {}) {
    for (const [key, value] of Object.entries(values)) this.values.set(key, value);
    this.presence = {
      set: (value, room) => this.announced.push([value, room]),
      others: (room) => new Map([...this.participants].filter(([, { at }]) => !room || at === room).map(([id, { value }]) => [id, value])),
      on: (callback) => this.presences.on(callback),
    };
  }

  /** How many callbacks it holds. */
  get watched() {
    const all = [this.changes, this.counts, this.memberships, this.presences, this.statuses, this.pendings, this.refusals, this.losses];
    return all.reduce((sum, emitter) => sum + emitter.size, 0);
  }
  get pending() {
    return this.writes.length;
  }
  get = (key) => this.values.get(key);
  has = (key) => this.values.has(key);
  keys = (pattern = "*") => [...this.values.keys()].filter((key) => matches(pattern, key));
  entries = (pattern = "*") => [...this.values].filter(([key]) => matches(pattern, key));
  on = (pattern, callback) => this.changes.on((change) => matches(pattern, change.key) && callback(change));
  onStatus = (callback) => this.statuses.on(callback);
  onPending = (callback) => this.pendings.on(callback);
  onRefused = (callback) => this.refusals.on(callback);
  onSuperseded = (callback) => this.losses.on(callback);
  ready = () => this.#ready.promise;
  close = async () => {
    this.closed = true;
    this.onClosed?.();
  };

  /** A change from elsewhere, or, with `by: "me"`, from here. */
  change(key, value, by = "remote") {
    const old = this.values.get(key);
    if (value === undefined) this.values.delete(key);
    else this.values.set(key, value);
    this.changes.emit({ key, value, old, version: undefined, by });
  }
  #write() {
    const write = deferred();
    const { promise } = write;
    promise.catch(() => {});
    this.writes.push(write);
    this.pendings.emit(this.pending);
    return { state: "local", kept: promise, acked: promise, durable: promise, then: promise.then.bind(promise) };
  }
  set(key, value) {
    this.change(key, value, "me");
    return this.#write();
  }
  delete(key) {
    this.change(key, undefined, "me");
    return this.#write();
  }
  /** All writes so far are durable, or refused. */
  confirm(reason) {
    for (const { resolve, reject } of this.writes.splice(0)) reason ? reject(reason) : resolve("durable");
    this.pendings.emit(0);
  }
  counter(name) {
    const field = this;
    return {
      get value() {
        return field.sums.get(name) ?? 0;
      },
      add(amount) {
        field.sums.set(name, this.value + amount);
        field.counts.emit(name, this.value);
        return field.#write();
      },
      on: (callback) => this.counts.on((changed, value) => changed === name && callback(value)),
    };
  }
  members(name) {
    const values = () => [...(this.sets.get(name) ?? [])];
    const change = (next) => {
      this.sets.set(name, next);
      this.memberships.emit(name, next);
      return this.#write();
    };
    return {
      values,
      has: (member) => values().includes(member),
      add: (member) => change([...values(), member]),
      delete: (member) => change(values().filter((other) => other !== member)),
      on: (callback) => this.memberships.on((changed, all) => changed === name && callback(all)),
    };
  }
  turn(status) {
    this.status = status;
    this.statuses.emit(status);
  }
  /** Data are there. */
  load(values = {}) {
    for (const [key, value] of Object.entries(values)) this.change(key, value);
    this.turn("online");
    this.#ready.resolve();
  }
  fail() {
    this.turn("denied");
    this.#ready.reject(new Error("denied"));
  }
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/** In place of `connect` of the client. */
export function connect(url, options) {
  const field = new FakeField();
  Object.assign(field, { url, options });
  opened.push(field);
  return field;
}

export class FakeBus {
  listenings = [];
  listen(pattern, options) {
    const items = [];
    let wake = () => {};
    const listening = {
      pattern,
      options,
      ended: false,
      send(...waves) {
        items.push(...waves);
        wake();
      },
      fail(error) {
        listening.error = error;
        wake();
      },
      async next() {
        while (!items.length && !listening.ended && !listening.error) await new Promise((resolve) => (wake = resolve));
        if (listening.error) throw listening.error;
        return listening.ended ? { done: true, value: undefined } : { done: false, value: items.shift() };
      },
      async return() {
        listening.ended = true;
        wake();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => listening,
    };
    this.listenings.push(listening);
    return listening;
  }
  close = async () => {};
}

/** In place of `bus` of the client. */
export function bus(url, options) {
  const made = new FakeBus();
  Object.assign(made, { url, options });
  opened.push(made);
  return made;
}
