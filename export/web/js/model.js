// An exported detector but for the network itself: how its file wants pictures, and what its answers mean.
// The twin of the parts of yolo_distill/runtime/detector.py around the session.

import { fromHalf } from "./half.js";
import { inputForm } from "./input-form.js";
import { tuple } from "./literal.js";
import { readMetadata, RequestError } from "./metadata.js";
import { readOnnx } from "./onnx-file.js";
import { Postprocess } from "./postprocess.js";

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
    outputs.sort((one, other) => one.shape.length - other.shape.length); // boxes before prototypes
    this.outputs = outputs.map(({ name }) => name);
    this.meaning = this.chooseLayout(outputs.map(({ shape }) => shape));
    this.end2end = this.meaning.end2end;
    this.precision = String(this.notes.everything.get("precision") ?? (this.form.dtype === "float16" ? "fp16" : "fp32"));
  }

  /** Turn a picture into the network's input; see `InputForm.fill`. */
  preprocess(picture) {
    return this.form.fill(picture, this.imgsz);
  }

  /**
   * Turn the network's raw answer into detections, in pixels of the picture.
   *
   * @param {{[name: string]: {data: ArrayLike<number>, dims: number[]}}} answers as a session's `run` gives them.
   * @param {object} transform as `preprocess` returned it.
   * @param {{conf: number, iou: number, classes: ?number[], maskSide?: number}} settings
   * @returns {import("./postprocess.js").Found}
   */
  postprocess(answers, transform, settings) {
    const answer = this.outputs.map((name) => ({ data: asFloats(answers[name].data), dims: answers[name].dims }));
    const shapes = answer.map(({ dims }) => dims);
    if (!this.meaning.fits(shapes)) {
      throw new Error(
        `${this.file}: the model answered ${shapes.map(tuple).join(" and ")}; expected ${this.meaning.expected()}`,
      );
    }
    try {
      return this.meaning.decode(answer, transform, { most: MOST_DETECTIONS, ...settings });
    } catch (error) {
      throw new Error(
        `${this.file}: ${error.message}; the file is damaged, or a half-precision one that overflows: export it ` +
          "again, in full precision",
      );
    }
  }

  /** What the outputs mean; a fixed shape says it better than the notes of older exports. */
  chooseLayout(shapes) {
    const noted = this.notes.end2end;
    const both = [noted, !noted].map((end2end) => new Postprocess(this.notes, end2end));
    const right = both.find((one) => one.fits(shapes));
    if (right) return right;
    throw new RequestError(
      `${this.file}: the model answers ${shapes.map(tuple).join(", ")}; expected ${both[0].expected()}`,
    );
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
  return data instanceof Uint16Array ? Float32Array.from(data, fromHalf) : new Float32Array(data);
}
