// From the network's raw answer for one picture to boxes, scores and classes; the twin of
// yolo_distill/runtime/decode.py.
//
// Two layouts exist. Dense: (4 + nc + E, A), a column per anchor point holding centre x, centre y, width, height and a
// score per class; many columns tell of the same object. End to end: (N, 6 + E), a row per object holding the corners,
// the score and the class, best first; rows that were not needed have score 0. Boxes are in pixels of the input.
//
// E numbers more are a task's own: the weights of the mask's prototypes, the keypoints, or the angle. A turned box is
// centre x, centre y, width, height in both layouts.

import { byScore, nms } from "./nms.js";
import { turnedNms, withAngle } from "./turned-boxes.js";

const MOST_CANDIDATES = 30_000;
const f32 = Math.fround;

/**
 * @typedef {object} Boxes
 * @property {Float32Array} xyxy corners, four a box; of turned boxes centre, width and height.
 * @property {Float32Array} scores
 * @property {Int32Array} classId
 * @property {Float32Array} own the numbers of the task, E a box.
 */

/**
 * What a dense answer holds after non-maximum suppression, best first. Each anchor point counts for its best class.
 *
 * @param {Float32Array} raw (4 + nc + E, A), row after row.
 * @param {{nc: number, own?: number, turned?: boolean}} form number of classes, E, whether boxes are turned.
 * @param {{conf: number, iou: number, most: number, classes: ?number[], agnostic?: boolean}} settings
 * @returns {Boxes}
 */
export function decodeDense(raw, { nc, own = 0, turned = false }, { conf, iou, most, classes, agnostic }) {
  const anchors = raw.length / (4 + nc + own);
  const { best, classId } = bestClasses(raw, nc, anchors);
  checkFinite(raw.subarray(0, 4 * anchors));
  checkFinite(best);
  const least = f32(conf);
  const wanted = classes && new Set(classes);
  let passed = [];
  for (let i = 0; i < anchors; i++) {
    if (best[i] > least && (!wanted || wanted.has(classId[i]))) passed.push(i);
  }
  if (passed.length > MOST_CANDIDATES) {
    const first = byScore(Float32Array.from(passed, (i) => best[i])).slice(0, MOST_CANDIDATES);
    passed = first.map((place) => passed[place]);
  }
  const found = {
    xyxy: turned ? columns(raw, anchors, 0, 4, passed) : corners(raw, anchors, passed),
    scores: Float32Array.from(passed, (i) => best[i]),
    classId: Int32Array.from(passed, (i) => classId[i]),
    own: columns(raw, anchors, 4 + nc, own, passed),
  };
  checkFinite(found.own);
  const [boxes, suppress] = turned ? [withAngle(found), turnedNms] : [found.xyxy, nms];
  return pick(found, suppress(boxes, found.scores, found.classId, { iou, limit: most, agnostic }));
}

/**
 * What an end-to-end answer holds, in its own order.
 *
 * @param {Float32Array} raw (N, 6 + E), row after row.
 * @param {{own?: number}} form E.
 * @param {{conf: number, most: number, classes: ?number[]}} settings
 * @returns {Boxes}
 */
export function decodeEnd2end(raw, { own = 0 }, { conf, most, classes }) {
  checkFinite(raw);
  const least = f32(conf);
  const wanted = classes && new Set(classes);
  const rows = [];
  for (let at = 0; at < raw.length && rows.length < most; at += 6 + own) {
    if (raw[at + 4] > least && (!wanted || wanted.has(Math.trunc(raw[at + 5])))) rows.push(at);
  }
  return {
    xyxy: slices(raw, rows, 4),
    scores: Float32Array.from(rows, (at) => raw[at + 4]),
    classId: Int32Array.from(rows, (at) => raw[at + 5]),
    own: slices(raw, rows.map((at) => at + 6), own),
  };
}

/** Some of the boxes. */
export function pick({ xyxy, scores, classId, own }, which) {
  const each = scores.length ? own.length / scores.length : 0;
  return {
    xyxy: slices(xyxy, which.map((i) => 4 * i), 4),
    scores: Float32Array.from(which, (i) => scores[i]),
    classId: Int32Array.from(which, (i) => classId[i]),
    own: slices(own, which.map((i) => each * i), each),
  };
}

/** So many numbers from each of the starts on, one after the other. */
function slices(numbers, starts, length) {
  const taken = new Float32Array(length * starts.length);
  starts.forEach((at, i) => taken.set(numbers.subarray(at, at + length), length * i));
  return taken;
}

/** Some columns of a few rows, column after column. */
function columns(raw, anchors, first, count, which) {
  const taken = new Float32Array(count * which.length);
  which.forEach((i, place) => {
    for (let row = 0; row < count; row++) taken[count * place + row] = raw[(first + row) * anchors + i];
  });
  return taken;
}

/** Each anchor point's highest score and its class, the first one of equals; row after row, as memory lies. */
function bestClasses(raw, nc, anchors) {
  const best = raw.slice(4 * anchors, 5 * anchors);
  const classId = new Int32Array(anchors);
  for (let c = 1; c < nc; c++) {
    const start = (4 + c) * anchors;
    for (let i = 0; i < anchors; i++) {
      const score = raw[start + i];
      // NaN has to come through, so that it is seen.
      if (score > best[i] || score !== score) {
        best[i] = score;
        classId[i] = c;
      }
    }
  }
  return { best, classId };
}

function corners(raw, anchors, which) {
  const xyxy = new Float32Array(4 * which.length);
  which.forEach((i, place) => {
    for (const axis of [0, 1]) {
      const centre = raw[axis * anchors + i];
      const half = f32(raw[(2 + axis) * anchors + i] / 2);
      xyxy[4 * place + axis] = centre - half;
      xyxy[4 * place + 2 + axis] = centre + half;
    }
  });
  return xyxy;
}

/** Refuse NaN and infinity, which would be no detection in silence. */
export function checkFinite(numbers, where = "answer") {
  if (!numbers.every(Number.isFinite)) throw new Error(`nan or infinity in the network's ${where}`);
}
