// In which form a file takes pictures, and pictures in that form; the twin of yolo_distill/runtime/inputs.py.

import { toHalf } from "./half.js";
import { fit, PADDING } from "./letterbox.js";
import { tuple } from "./literal.js";
import { RequestError } from "./metadata.js";
import { resize } from "./resize.js";

const DTYPES = { "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8" };
const ARRAYS = { float32: Float32Array, float16: Uint16Array, uint8: Uint8Array };

/** The form of a file's input. */
export class InputForm {
  /**
   * @param {object} form
   * @param {string} form.name of the input in the graph.
   * @param {"float32"|"float16"|"uint8"} form.dtype floats for (B, 3, H, W), bytes for (B, H, W, 3).
   * @param {boolean} form.blueFirst whether bytes are in the order blue, green, red; floats never are.
   * @param {number} form.batch pictures at a time; 1 where any number will do.
   * @param {?[number, number]} form.imgsz height and width in pixels where they are fixed.
   */
  constructor({ name, dtype, blueFirst, batch, imgsz }) {
    Object.assign(this, { name, dtype, blueFirst, batch, imgsz });
    this.levels = levels(dtype);
    this.resized = new Uint8Array();
  }

  /**
   * Lay a picture into an input.
   *
   * @param {{data: Uint8Array|Uint8ClampedArray, width: number, height: number}} picture four bytes a pixel.
   * @param {[number, number]} size height and width of the input.
   * @returns {{data: Float32Array|Uint16Array|Uint8Array, dims: number[], transform: ReturnType<typeof fit>}}
   *     float16 as bits; where a file takes several pictures at a time, those after the first are zeros.
   */
  fill(picture, size) {
    const transform = fit([picture.height, picture.width], size);
    const [tall, wide] = transform.resized;
    const length = 3 * tall * wide;
    if (this.resized.length !== length) this.resized = new Uint8Array(length);
    const rgb = resize(picture.data, picture.width, picture.height, wide, tall, this.resized);
    const area = size[0] * size[1];
    const data = new ARRAYS[this.dtype](this.batch * 3 * area);
    data.fill(this.levels[PADDING], 0, 3 * area);
    if (this.dtype === "uint8") this.fillPixels(data, rgb, transform);
    else this.fillPlanes(data, rgb, transform);
    const dims = this.dtype === "uint8" ? [this.batch, ...size, 3] : [this.batch, 3, ...size];
    return { data, dims, transform };
  }

  fillPlanes(data, rgb, { input: [height, width], resized: [tall, wide], top, left }) {
    const area = height * width;
    for (let y = 0, from = 0; y < tall; y++) {
      let to = (top + y) * width + left;
      for (let x = 0; x < wide; x++, from += 3, to++) {
        data[to] = this.levels[rgb[from]];
        data[to + area] = this.levels[rgb[from + 1]];
        data[to + 2 * area] = this.levels[rgb[from + 2]];
      }
    }
  }

  fillPixels(data, rgb, { input: [, width], resized: [tall, wide], top, left }) {
    const [first, last] = this.blueFirst ? [2, 0] : [0, 2];
    for (let y = 0, from = 0; y < tall; y++) {
      let to = 3 * ((top + y) * width + left);
      for (let x = 0; x < wide; x++, from += 3, to += 3) {
        data[to] = rgb[from + first];
        data[to + 1] = rgb[from + 1];
        data[to + 2] = rgb[from + last];
      }
    }
  }
}

/** The network's number for each of the 256 brightnesses: divided in float32, as in training. */
function levels(dtype) {
  const numbers = Float32Array.from({ length: 256 }, (_, level) => level / 255);
  if (dtype === "uint8") return Uint8Array.from({ length: 256 }, (_, level) => level);
  return dtype === "float16" ? Uint16Array.from(numbers, toHalf) : numbers;
}

/**
 * The form that a file's inputs have.
 *
 * @param {import("./onnx-file.js").Value[]} inputs of the file; there has to be one.
 * @param {import("./metadata.js").Metadata} notes they have to say the same.
 * @param {string} file the file's name, for errors.
 * @throws {RequestError} the input has neither form, or the metadata says another one than it has, or a size that it
 *   does not take.
 */
export function inputForm(inputs, notes, file) {
  const shapes = inputs.map(({ shape }) => tuple(shape)).join(", ");
  const one = inputs.length === 1 && inputs[0].shape.length === 4 ? inputs[0] : null;
  const dtype = one && DTYPES[one.type];
  const bytesIn = dtype === "uint8";
  const channels = one?.shape[bytesIn ? 3 : 1];
  if (!one || !dtype || (typeof channels === "number" && channels !== 3)) {
    const kinds = inputs.map(({ type }) => type).join(", ");
    throw new RequestError(
      `${file}: the model takes ${shapes}; expected one input of shape (B, 3, H, W), float32 or float16, or ` +
        `(B, H, W, 3), uint8 (its type: ${kinds})`,
    );
  }
  const [layout, range] = bytesIn ? ["NHWC", "0-255"] : ["NCHW", "0-1"];
  const right = notes.inputLayout === layout && notes.inputRange === range;
  if (!right || (!bytesIn && notes.inputColour !== "RGB")) {
    throw new RequestError(
      `${file}: the model takes ${one.type} ${shapes}, but its metadata says input_layout=${notes.inputLayout} ` +
        `input_range=${notes.inputRange} input_colour=${notes.inputColour}; expected ${layout}, ${range} and ` +
        `${bytesIn ? "BGR or RGB" : "RGB"} for such an input; export it again`,
    );
  }
  const sides = bytesIn ? one.shape.slice(1, 3) : one.shape.slice(2);
  const fixed = sides.every((side) => typeof side === "number");
  if (!fixed && notes.imgsz.some((side) => side % notes.stride)) {
    throw new RequestError(
      `${file}: the model takes ${shapes}, but imgsz = (${notes.imgsz.join(", ")}) in its metadata is no multiple of ` +
        `its stride, ${notes.stride}; export it again`,
    );
  }
  return new InputForm({
    name: one.name,
    dtype,
    blueFirst: notes.inputColour === "BGR",
    batch: typeof one.shape[0] === "number" ? one.shape[0] : 1,
    imgsz: fixed ? sides : null,
  });
}
