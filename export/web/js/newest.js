// Hands frames to a detector one at a time, and only ever the newest: a slow detector sees now and not then.

export class Newest {
  /** @param {(take: () => any) => Promise<void>} work takes a frame and does all that is to be done with it. */
  constructor(work) {
    this.work = work;
    this.busy = false;
    this.waiting = null;
    this.dropped = 0;
  }

  /**
   * Offer a frame. It is taken now if nothing is in work, else afterwards, unless a newer one is offered meanwhile.
   *
   * @param {() => any} take gives the frame; never called for one that is not wanted.
   */
  offer(take) {
    if (this.waiting) this.dropped++;
    this.waiting = take;
    if (!this.busy) this.next();
  }

  /** Forget what is waiting. */
  clear() {
    this.waiting = null;
  }

  async next() {
    this.busy = true;
    while (this.waiting) {
      const take = this.waiting;
      this.waiting = null;
      await this.work(take);
    }
    this.busy = false;
  }
}
