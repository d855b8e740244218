// Shows a frame with what was found in it, as large as the stage allows.

import { drawFound } from "./drawing.js";

const MOST_DENSITY = 2; // more pixels than that are work that nobody sees

export class View {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} stage what it has to fit into.
   */
  constructor(canvas, stage) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.shown = null;
    this.room = [1, 1];
    new ResizeObserver(([entry]) => {
      this.room = [entry.contentRect.width, entry.contentRect.height];
      if (this.shown) this.draw();
    }).observe(stage);
  }

  /**
   * Show a frame, which belongs to the view from here on.
   *
   * @param {{frame: VideoFrame|ImageBitmap, copy: ?ImageBitmap, found: import("./postprocess.js").Found}} answer
   * @param {string[]} names
   */
  show({ frame, copy, found }, names) {
    this.close();
    this.shown = { frame, copy, found, names };
    this.draw();
  }

  /** Show the same frame with other detections. */
  update(found) {
    this.shown.found = found;
    this.draw();
  }

  clear() {
    this.close();
    this.canvas.hidden = true;
  }

  close() {
    this.shown?.frame.close();
    this.shown?.copy?.close();
    this.shown = null;
  }

  draw() {
    const { frame, copy, found, names } = this.shown;
    const [width, height] = sizeOf(frame);
    const fit = Math.min(this.room[0] / width, this.room[1] / height);
    const density = Math.min(globalThis.devicePixelRatio || 1, MOST_DENSITY);
    const wide = Math.max(Math.round(width * fit * density), 1);
    const tall = Math.max(Math.round(height * fit * density), 1);
    const { canvas, context } = this;
    if (canvas.width !== wide || canvas.height !== tall) {
      [canvas.width, canvas.height] = [wide, tall];
      canvas.style.width = `${width * fit}px`;
      canvas.style.height = `${height * fit}px`;
    }
    context.drawImage(copy ?? frame, 0, 0, wide, tall);
    // Lines and letters grow with the picture, within what can be read.
    const unit = density * Math.min(Math.max(((width + height) * fit) / 1100, 0.75), 1.5);
    drawFound(context, found, names, { scale: wide / width, unit });
    canvas.hidden = false;
  }

  /** The shown frame at its own size, with what was found, as a PNG file. */
  async snapshot() {
    const { frame, found, names } = this.shown;
    const [width, height] = sizeOf(frame);
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { alpha: false });
    context.drawImage(frame, 0, 0, width, height);
    drawFound(context, found, names, { scale: 1, unit: Math.max((width + height) / 1400, 0.8) });
    return canvas.convertToBlob({ type: "image/png" });
  }
}

function sizeOf(frame) {
  return [frame.displayWidth ?? frame.width, frame.displayHeight ?? frame.height];
}
