// An exported detector but for the network itself: how its file wants pictures, and what its answers mean.
// The twin of the parts of yolo_distill/runtime/detector.py around the session.

import { decodeDense, decodeEnd2end } from "./decode.js";
import { fromHalf } from "./half.js";
import { inputForm } from "./input-form.js";
import { toPicture } from "./letterbox.js";
import { tuple } from "./literal.js";
import { readMetadata, RequestError } from "./metadata.js";
import { readOnnx } from "./onnx-file.js";

export const MOST_DETECTIONS = 300;
const FIRST_FIELD = 8; // ir_version, which every known exporter writes first

export class Model {
  /**
   * @param {Uint8Array} bytes of the file.
   * @param {string} file its name, for errors and for people.
   * @throws {RequestError} it is no detector of a known form.
   */
  constructor(bytes, file) {
    const { metadata, inputs, outputs } = open(bytes, file);
    this.file = file;
    this.notes = readMetadata(metadata, file);
    this.names = this.notes.names;
    this.form = inputForm(inputs, this.notes, file);
    this.imgsz = this.form.imgsz ?? this.notes.imgsz;
    this.output = outputs[0]?.name;
    this.end2end = this.chooseLayout(outputs.map(({ shape }) => shape));
    this.precision = String(this.notes.everything.get("precision") ?? (this.form.dtype === "float16" ? "fp16" : "fp32"));
  }

  /** Turn a picture into the network's input; see `InputForm.fill`. */
  preprocess(picture) {
    return this.form.fill(picture, this.imgsz);
  }

  /**
   * Turn the network's raw answer into detections, in pixels of the picture.
   *
   * @param {{data: ArrayLike<number>, dims: number[]}} answer
   * @param {object} transform as `preprocess` returned it.
   * @param {{conf: number, iou: number, classes: ?number[]}} settings
   * @returns {import("./decode.js").Boxes}
   */
  postprocess({ data, dims }, transform, settings) {
    if (!this.fits(dims, this.end2end)) {
      throw new Error(`${this.file}: the model answered ${tuple(dims)}; expected ${this.expected()}`);
    }
    const first = asFloats(data).subarray(0, dims[1] * dims[2]);
    const wanted = { most: MOST_DETECTIONS, ...settings };
    try {
      const found = this.end2end ? decodeEnd2end(first, wanted) : decodeDense(first, this.names.length, wanted);
      return { ...found, xyxy: toPicture(found.xyxy, transform) };
    } catch (error) {
      throw new Error(
        `${this.file}: ${error.message}; the file is damaged, or a half-precision one that overflows: export it ` +
          "again, in full precision",
      );
    }
  }

  /** Whether the output is end to end; a fixed shape says it better than the notes of older exports. */
  chooseLayout(shapes) {
    if (shapes.length === 1) {
      const noted = this.notes.end2end;
      for (const end2end of [noted, !noted]) if (this.fits(shapes[0], end2end)) return end2end;
    }
    throw new RequestError(
      `${this.file}: the model answers ${shapes.map(tuple).join(", ")}; expected ${this.expected()}`,
    );
  }

  /** Whether a shape, with names for dynamic sides, is that of a dense or an end-to-end answer. */
  fits(shape, end2end) {
    if (shape.length !== 3) return false;
    const [side, want] = end2end ? [shape[2], 6] : [shape[1], 4 + this.names.length];
    return typeof side === "number" ? side === want : true;
  }

  expected() {
    const nc = this.names.length;
    return `(B, ${4 + nc}, A) for ${nc} classes, or (B, N, 6)`;
  }
}

function open(bytes, file) {
  if (!bytes.length) throw new RequestError(`${file}: is empty; export or copy it again`);
  try {
    return readOnnx(bytes);
  } catch {
    const what =
      bytes[0] === FIRST_FIELD
        ? `is an ONNX model that is damaged or cut off (${bytes.length} bytes); export or copy it again`
        : "is not an ONNX model; give an .onnx file (made by: yolo-distill export model=best.pt)";
    throw new RequestError(`${file}: ${what}`);
  }
}

/** The answer as float32; of float16 some browsers give bits. */
function asFloats(data) {
  if (data instanceof Float32Array) return data;
  return data instanceof Uint16Array ? Float32Array.from(data, fromHalf) : Float32Array.from(data);
}
