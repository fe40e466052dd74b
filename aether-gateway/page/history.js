// The last hour, as the gateway kept it and as the page has seen it since.

const MOST = 3700;
/** Seconds of each channel that are kept for its sparkline and for the spectrum. */
export const SECONDS = 300;

export class History {
  /** Seconds since 1970, and waves and losses a second at each. */
  times = [];
  waves = [];
  lost = [];
  energy = [];
  /** Name to `{waves, energy}`: rings of the last seconds, of which `second` is the newest. */
  channels = new Map();
  second = 0;
  #last = 0;

  /** Reads what was before the page was open, or while it was away. */
  async load(app) {
    let read;
    let channels;
    try {
      read = await app.link.fetch("/api/history?last=720");
      channels = await app.link.fetch(`/api/history?channels=true&last=${Math.ceil(SECONDS / read.bucket_seconds)}`);
    } catch {
      return; // the page goes on with what it sees itself
    }
    const end = read.end_unix_ms / 1000;
    const count = read.waves.length;
    const times = read.waves.map((_, at) => end - (count - at) * read.bucket_seconds);
    const lost = read.waves.map((_, at) => Object.values(read.lost).reduce((sum, all) => sum + (all[at] ?? 0), 0));
    // What the page has seen since is finer.
    const from = this.times.findIndex((at) => at > (times.at(-1) ?? 0));
    const rest = (list) => (from < 0 ? [] : list.slice(from));
    this.times = [...times, ...rest(this.times)];
    this.waves = [...read.waves, ...rest(this.waves)];
    this.energy = [...read.energy, ...rest(this.energy)];
    this.lost = [...lost, ...rest(this.lost)];
    this.#fill(channels);
    app.draw();
  }

  /** The rings of channels from before, each bucket as so many seconds. */
  #fill(read) {
    for (const { channel, waves, amplitude } of read.channels ?? []) {
      const ring = this.#ring(channel);
      for (let at = 0; at < waves.length; at += 1) {
        for (let part = 0; part < read.bucket_seconds; part += 1) {
          const ago = (waves.length - at) * read.bucket_seconds - part;
          if (ago >= SECONDS) continue;
          const place = (((this.second - ago) % SECONDS) + SECONDS) % SECONDS;
          ring.waves[place] = waves[at];
          ring.energy[place] = waves[at] * amplitude[at];
        }
      }
    }
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
    this.second += 1;
    const place = this.second % SECONDS;
    for (const [name, ring] of this.channels) {
      ring.waves[place] = 0;
      ring.energy[place] = 0;
      if (this.second - ring.seen > SECONDS) this.channels.delete(name);
    }
    for (const [name, waves, energy] of view.flow.channels) {
      const ring = this.#ring(name);
      ring.waves[place] = waves;
      ring.energy[place] = energy;
      ring.seen = this.second;
    }
    this.times.push(view.unix_ms / 1000);
    this.waves.push(view.flow.second_waves);
    this.energy.push(view.flow.second_energy);
    this.lost.push(view.losses.per_second);
    for (const list of [this.times, this.waves, this.energy, this.lost]) {
      if (list.length > MOST) list.splice(0, list.length - MOST);
    }
  }

  /** How many seconds of each channel there are to show: whole minutes, up to all that is kept. */
  get seconds() {
    const known = (this.times.at(-1) ?? 0) - (this.times[0] ?? 0);
    return Math.min(SECONDS, Math.max(60, Math.ceil(known / 60) * 60));
  }

  /** The last seconds of a channel, the oldest first. */
  of(channel, what, seconds = 60) {
    const ring = this.channels.get(channel);
    if (!ring) return [];
    return Array.from({ length: seconds }, (_, at) => ring[what][(this.second - seconds + 1 + at + SECONDS) % SECONDS]);
  }

  /** The points since a time span ago, for a chart. */
  since(seconds, ...lists) {
    const begin = (this.times.at(-1) ?? 0) - seconds;
    const from = Math.max(0, this.times.findIndex((at) => at >= begin));
    return [this.times.slice(from), ...lists.map((list) => this[list].slice(from))];
  }
}
