// What an exported file says about itself; the twin of yolo_distill/runtime/metadata.py, errors included.

import { parseLiteral, Real, repr } from "./literal.js";

// What a network can be for, to be run here.
export const TASKS = ["detect", "segment", "pose", "obb"];
const REQUIRED = ["task", "names", "stride", "imgsz"];
// What an input may be; the first of each is meant where a file does not say.
const INPUT = { input_layout: ["NCHW", "NHWC"], input_colour: ["RGB", "BGR"], input_range: ["0-1", "0-255"] };
const EXPORT = "export it with: yolo-distill export model=best.pt";
// What a page could not show or would act on: controls, ends of lines, turned writing, halves of UTF-16 pairs.
const UNSHOWABLE = /[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;
const MOST_SHOWN = 200; // characters of a name

/** A file that cannot be used as it is; the message says why and what to do. */
export class RequestError extends Error {}

/**
 * @typedef {object} Metadata
 * @property {string[]} names class names by index.
 * @property {number} stride largest stride of the network, in pixels.
 * @property {[number, number]} imgsz height and width it was exported for, in pixels.
 * @property {string} task one of `TASKS`.
 * @property {?[number, number]} kptShape of "pose": how many keypoints an object has, and numbers each.
 * @property {boolean} end2end whether its answer is final and needs no NMS.
 * @property {?number} most pictures that it answers for at a time; null for any number.
 * @property {string} inputLayout "NCHW" or "NHWC".
 * @property {string} inputColour "RGB" or "BGR".
 * @property {string} inputRange "0-1" or "0-255".
 * @property {Map<string, any>} everything all notes, each as a value where it can be read as one.
 */

/**
 * Read the `metadata_props` of an ONNX file.
 *
 * @param {Map<string, string>} notes key to text.
 * @param {string} file the file's name, for errors.
 * @returns {Metadata}
 */
export function readMetadata(notes, file) {
  const missing = REQUIRED.filter((key) => !notes.get(key));
  if (missing.length) throw new RequestError(`${file}: the model's metadata lacks ${missing.join(", ")}; ${EXPORT}`);
  const everything = new Map([...notes].map(([key, text]) => [key, parseLiteral(text)]));
  const task = asText(everything.get("task"));
  if (!TASKS.includes(task)) {
    const known = `${TASKS.slice(0, -1).join(", ")} and ${TASKS.at(-1)}`;
    throw new RequestError(`${file}: the model's task is ${short(task)}; ${known} can be run`);
  }
  const head = everything.has("head") ? asText(everything.get("head")) : "";
  if (head.startsWith("RTDETR")) {
    throw new RequestError(`${file}: the model has the head ${shown(head)}; only YOLO detectors can be run`);
  }
  const args = everything.get("args");
  const withNms = args instanceof Map && args.get("nms") === true;
  return {
    names: classNames(everything.get("names"), file),
    stride: positive(everything.get("stride"), "stride", file),
    imgsz: size(everything.get("imgsz"), file),
    task,
    kptShape: task === "pose" ? keypointShape(everything.get("kpt_shape") ?? null, file) : null,
    end2end: everything.get("end2end") === true || withNms,
    // The host's NMS is unrolled for that many pictures, and answers with nothing for all others.
    most: withNms ? positive(everything.get("batch") ?? 1, "batch", file) : null,
    inputLayout: oneOf(notes, "input_layout", file),
    inputColour: oneOf(notes, "input_colour", file),
    inputRange: oneOf(notes, "input_range", file),
    everything,
  };
}

/** A name as it can be written anywhere: in one line of some length. */
function shown(name) {
  const letters = Array.from(name);
  const short = letters.length <= MOST_SHOWN ? name : `${letters.slice(0, MOST_SHOWN - 3).join("")}...`;
  return short.replace(UNSHOWABLE, "\ufffd");
}

function classNames(value, file) {
  const pairs = Array.isArray(value) ? value.entries() : value instanceof Map ? value : [];
  const names = new Map([...pairs].map(([index, name]) => [asIndex(index), shown(asText(name))]));
  const list = Array.from({ length: names.size }, (_, index) => names.get(index));
  if (!list.length || list.includes(undefined)) {
    throw new RequestError(`${file}: the model's metadata names no classes (names = ${short(value)}); ${EXPORT}`);
  }
  return list;
}

function size(value, file) {
  const sides = isWhole(value) ? [value, value] : value;
  if (Array.isArray(sides) && sides.length === 2) return Array.from(sides, (side) => positive(side, "imgsz", file));
  throw new RequestError(`${file}: the model's metadata has no readable size (imgsz = ${short(value)}); ${EXPORT}`);
}

function keypointShape(value, file) {
  const [count, numbers] = Array.isArray(value) && value.length === 2 ? value : [];
  if (numbers === 2 || numbers === 3) return [positive(count, "kpt_shape", file), numbers];
  throw new RequestError(
    `${file}: the model's metadata does not say how many keypoints there are (kpt_shape = ${short(value)}); ${EXPORT}`,
  );
}

function positive(value, key, file) {
  if (isWhole(value) && value > 0) return Number(value);
  throw new RequestError(
    `${file}: ${key} = ${short(value)} in the model's metadata is no whole number above 0; ${EXPORT}`,
  );
}

function oneOf(notes, key, file) {
  const text = notes.get(key);
  const known = INPUT[key];
  if (text && !known.includes(text)) {
    throw new RequestError(`${file}: ${key} = ${short(text)} in the model's metadata; expected ${known.join(" or ")}`);
  }
  return text || known[0];
}

/** Whether Python would call it an int: a bool is one as well. */
function isWhole(value) {
  return typeof value === "number" || typeof value === "boolean";
}

/** Python's `int(value)`; NaN where that fails. */
function asIndex(value) {
  if (isWhole(value)) return Number(value);
  if (value instanceof Real) return Math.trunc(value.value);
  return typeof value === "string" && /^\s*[+-]?\d+\s*$/.test(value) ? Number(value) : NaN;
}

/** Python's `str(value)`. */
function asText(value) {
  return typeof value === "string" ? value : repr(value);
}

function short(value) {
  const text = repr(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
