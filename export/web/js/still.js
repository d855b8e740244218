// A source whose picture stands: a picture file, looked at once. The worker decodes it.

export class Still {
  /** @param {File} file */
  constructor(file) {
    this.file = file;
    this.title = file.name;
    this.moving = false;
  }

  async start(offer) {
    offer(() => this.take());
  }

  async take() {
    return { frame: this.file, taken: performance.now() };
  }

  stop() {}
}
