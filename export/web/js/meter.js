// Frames a second and latency, over the last two seconds.

const WINDOW_MS = 2000;

export class Meter {
  constructor() {
    this.drawn = [];
  }

  /**
   * Note a frame that was drawn.
   *
   * @param {number} taken when it was captured, in ms.
   * @param {number} now when it was drawn.
   */
  add(taken, now) {
    this.drawn.push({ now, latency: now - taken });
    while (this.drawn[0].now < now - WINDOW_MS) this.drawn.shift();
  }

  clear() {
    this.drawn = [];
  }

  /** Frames a second; null before there are two. */
  get fps() {
    if (this.drawn.length < 2) return null;
    return (1000 * (this.drawn.length - 1)) / (this.drawn.at(-1).now - this.drawn[0].now);
  }

  /** The middle one of the latencies, in ms; null before there is one. */
  get latency() {
    const sorted = this.drawn.map(({ latency }) => latency).sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : null;
  }
}
