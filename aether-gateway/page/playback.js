// The last hour again: the rates of channels and the losses of services in buckets of some seconds, and the moment that is
// shown.

import { isCalm } from "./widgets.js";

/** Steps a second while it plays: an hour takes a minute. */
const STEPS = 12;

export class Playback {
  #read = null;
  #rates = new Map();
  #losses = new Map();
  #timer = 0;
  /** Counts beginnings and ends: what was asked for before is not shown. */
  #turn = 0;
  at = 0;
  error = "";

  /** Whether a moment of the past is shown. */
  get isOn() {
    return this.#read !== null;
  }

  get isPlaying() {
    return this.#timer !== 0;
  }

  /** The number of moments. */
  get length() {
    return this.#read.waves.length;
  }

  /** The end of the moment that is shown, in milliseconds since 1970. */
  get unixMs() {
    return this.#read.end_unix_ms - (this.length - 1 - this.at) * this.#read.bucket_seconds * 1000;
  }

  /** All waves a second at the moment, and all that were lost. */
  get waves() {
    return this.#read.waves[this.at] ?? 0;
  }

  get lost() {
    return Object.values(this.#read.lost).reduce((sum, buckets) => sum + (buckets[this.at] ?? 0), 0);
  }

  /** The waves a second of a channel at the moment. */
  rate(channel) {
    return this.#of(this.#rates, channel);
  }

  /** What a service lost a second at the moment. */
  lostBy(service) {
    return this.#of(this.#losses, service);
  }

  /** What came later has fewer buckets. */
  #of(all, name) {
    const buckets = all.get(name) ?? [];
    return buckets[this.at - (this.length - buckets.length)] ?? 0;
  }

  /** Reads the hour and begins with its oldest moment. */
  async begin(app) {
    this.#turn += 1;
    const turn = this.#turn;
    try {
      const read = await app.link.fetch("/api/history?channels=true&services=true&last=720");
      if (turn !== this.#turn) return;
      if (read.waves.length === 0) {
        this.error = "There is no history yet: the first moment is kept five seconds after the start of the gateway.";
      } else {
        this.error = "";
        this.#read = read;
        this.#rates = new Map(read.channels.map(({ channel, waves }) => [channel, waves]));
        this.#losses = new Map(read.services.map(({ vibrator, lost }) => [vibrator, lost]));
        this.at = 0;
        if (!isCalm()) this.play(app);
      }
    } catch (failed) {
      if (turn !== this.#turn) return;
      this.error = failed.message;
    }
    app.draw();
  }

  play(app) {
    this.pause();
    if (this.at >= this.length - 1) this.at = 0;
    this.#timer = setInterval(() => {
      if (this.at < this.length - 1) this.at += 1;
      else this.pause();
      app.draw();
    }, 1000 / STEPS);
  }

  pause() {
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  end() {
    this.#turn += 1;
    this.pause();
    this.#read = null;
    this.error = "";
  }
}
