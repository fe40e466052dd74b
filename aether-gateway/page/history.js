// The last hour, as the gateway kept it and as the page has seen it since.

import { matches } from "./channels.js";

const MOST = 3700;
/** Seconds of each channel that are kept for its sparkline and for the spectrum. */
export const SECONDS = 300;
/** What flows "now" is the mean of so many seconds, on every page. */
const NOW = 5;
/** Views come every second; a longer pause is a gap. */
const GAP = 3;

export class History {
  /** Seconds since 1970, and waves, energy and losses a second at each. */
  times = [];
  waves = [];
  energy = [];
  lost = [];
  /** Name to `{waves, energy}`: rings of the last seconds, of which `second` is the newest. */
  channels = new Map();
  second = 0;
  #last = 0;
  /** Which seconds of the rings the page has seen itself. */
  #seen = new Uint8Array(SECONDS);

  /** Reads what was before the page was open, or while it was away. A gateway that was restarted knows less than the page. */
  async load(app) {
    let read;
    let channels;
    try {
      read = await app.link.fetch("/api/history?last=720");
      channels = await app.link.fetch(`/api/history?channels=true&last=${Math.ceil(SECONDS / read.bucket_seconds)}`);
    } catch {
      return; // the page goes on with what it sees itself
    }
    this.#merge(read);
    this.#fill(channels);
    app.draw();
  }

  /** Adds the buckets of times in which the page saw nothing. */
  #merge(read) {
    const [end, each, count] = [read.end_unix_ms / 1000, read.bucket_seconds, read.waves.length];
    const seen = new Set(this.times.map((at) => Math.floor(at / each)));
    const points = this.times.map((at, place) => [at, this.waves[place], this.energy[place], this.lost[place]]);
    for (let at = 0; at < count; at += 1) {
      const time = end - (count - 1 - at) * each;
      if (seen.has(Math.floor(time / each))) continue;
      const lost = Object.values(read.lost).reduce((sum, all) => sum + (all[at] ?? 0), 0);
      points.push([time, read.waves[at], read.energy[at], lost]);
    }
    points.sort(([a], [b]) => a - b);
    [this.times, this.waves, this.energy, this.lost] = [0, 1, 2, 3].map((part) => points.map((point) => point[part]));
    this.#bound();
  }

  /** The rings of channels from before, each bucket as so many seconds. */
  #fill(read) {
    for (const { channel, waves, amplitude } of read.channels ?? []) {
      const ring = this.#ring(channel);
      for (let at = 0; at < waves.length; at += 1) {
        for (let part = 0; part < read.bucket_seconds; part += 1) {
          const ago = (waves.length - at) * read.bucket_seconds - part;
          if (ago >= SECONDS) continue;
          const place = this.#place(ago);
          if (this.#seen[place]) continue;
          ring.waves[place] = waves[at];
          ring.energy[place] = waves[at] * amplitude[at];
        }
      }
    }
  }

  #place(ago) {
    return (((this.second - ago) % SECONDS) + SECONDS) % SECONDS;
  }

  #ring(channel) {
    let ring = this.channels.get(channel);
    if (!ring) {
      ring = { waves: new Float32Array(SECONDS), energy: new Float32Array(SECONDS), seen: this.second };
      this.channels.set(channel, ring);
    }
    return ring;
  }

  /** Adds the last second. */
  add(view) {
    if (view.second === this.#last) return;
    this.#last = view.second;
    const now = view.unix_ms / 1000;
    const pause = this.times.length > 0 ? Math.round(now - this.times.at(-1)) : 1;
    // What was missed stays empty, so that a second of the past stays where it was.
    if (pause >= GAP) for (let at = 1; at < Math.min(pause, SECONDS); at += 1) this.#turn(0);
    this.#turn(1);
    for (const [name, waves, energy] of view.flow.channels) {
      const ring = this.#ring(name);
      ring.waves[this.#place(0)] = waves;
      ring.energy[this.#place(0)] = energy;
      ring.seen = this.second;
    }
    this.times.push(now);
    this.waves.push(view.flow.second_waves);
    this.energy.push(view.flow.second_energy);
    this.lost.push(view.losses.per_second);
    this.#bound();
  }

  #turn(isSeen) {
    this.second += 1;
    const place = this.#place(0);
    this.#seen[place] = isSeen;
    for (const [name, ring] of this.channels) {
      ring.waves[place] = 0;
      ring.energy[place] = 0;
      if (this.second - ring.seen > SECONDS) this.channels.delete(name);
    }
  }

  #bound() {
    for (const list of [this.times, this.waves, this.energy, this.lost]) {
      if (list.length > MOST) list.splice(0, list.length - MOST);
    }
  }

  /** How many seconds of each channel there are to show: whole minutes, up to all that is kept. */
  get seconds() {
    const known = (this.times.at(-1) ?? 0) - (this.times[0] ?? 0);
    return Math.min(SECONDS, Math.max(60, Math.ceil(known / 60) * 60));
  }

  /** What flows a second now, of the channels that match a pattern. */
  now(what, pattern = "") {
    const all = pattern ? this.sum(pattern, what, NOW) : this[what].slice(-NOW);
    return all.length === 0 ? 0 : all.reduce((sum, value) => sum + value, 0) / all.length;
  }

  /** The last seconds of a channel, the oldest first. */
  of(channel, what, seconds = 60) {
    const ring = this.channels.get(channel);
    if (!ring) return [];
    return Array.from({ length: seconds }, (_, at) => ring[what][this.#place(seconds - 1 - at)]);
  }

  /** The last seconds of all channels that match a pattern, together. */
  sum(pattern, what, seconds) {
    const all = new Array(seconds).fill(0);
    for (const [name, ring] of this.channels) {
      if (!matches(pattern, name)) continue;
      for (let at = 0; at < seconds; at += 1) all[at] += ring[what][this.#place(seconds - 1 - at)];
    }
    return all;
  }

  /** The points since a time span ago, for a chart: of all waves, or of channels, of which some minutes are kept. */
  since(seconds, pattern, ...lists) {
    if (pattern) {
      const many = Math.min(seconds, this.seconds);
      const end = this.times.at(-1) ?? 0;
      return [Array.from({ length: many }, (_, at) => end - many + 1 + at), ...lists.map((list) => this.sum(pattern, list, many))];
    }
    const begin = (this.times.at(-1) ?? 0) - seconds;
    const from = Math.max(0, this.times.findIndex((at) => at >= begin));
    return [this.times.slice(from), ...lists.map((list) => this[list].slice(from))];
  }

  /** The last seconds of everything, one number for each; null where nothing is known. */
  even(what, seconds) {
    const all = new Array(seconds).fill(null);
    const end = Math.round(this.times.at(-1) ?? 0);
    for (let at = this.times.length - 1; at >= 0; at -= 1) {
      const ago = end - Math.round(this.times[at]);
      if (ago >= seconds) break;
      all[seconds - 1 - ago] ??= this[what][at];
    }
    // A bucket stands for its seconds.
    const from = all.findIndex((value) => value !== null);
    for (let at = seconds - 2; at >= from && from >= 0; at -= 1) all[at] ??= all[at + 1];
    return from < 0 ? [] : all.slice(from);
  }
}
