// From the network's raw answer for one picture to boxes, scores and classes; the twin of
// yolo_distill/runtime/decode.py.
//
// Two layouts exist. Dense: (4 + nc, A), a column per anchor point holding centre x, centre y, width, height and a
// score per class; many columns tell of the same object. End to end: (N, 6), a row per object holding the corners, the
// score and the class, best first; rows that were not needed have score 0. Boxes are in pixels of the input in both.

import { byScore, nms } from "./nms.js";

const MOST_CANDIDATES = 30_000;
const f32 = Math.fround;

/**
 * @typedef {object} Boxes
 * @property {Float32Array} xyxy corners, four a box.
 * @property {Float32Array} scores
 * @property {Int32Array} classId
 */

/**
 * What a dense answer holds after non-maximum suppression, best first. Each anchor point counts for its best class.
 *
 * @param {Float32Array} raw (4 + nc, A), row after row.
 * @param {number} nc number of classes.
 * @param {{conf: number, iou: number, most: number, classes: ?number[], agnostic?: boolean}} settings
 * @returns {Boxes}
 */
export function decodeDense(raw, nc, { conf, iou, most, classes, agnostic }) {
  const anchors = raw.length / (4 + nc);
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
    xyxy: corners(raw, anchors, passed),
    scores: Float32Array.from(passed, (i) => best[i]),
    classId: Int32Array.from(passed, (i) => classId[i]),
  };
  return pick(found, nms(found.xyxy, found.scores, found.classId, { iou, limit: most, agnostic }));
}

/**
 * What an end-to-end answer holds, in its own order.
 *
 * @param {Float32Array} raw (N, 6), row after row.
 * @param {{conf: number, most: number, classes: ?number[]}} settings
 * @returns {Boxes}
 */
export function decodeEnd2end(raw, { conf, most, classes }) {
  checkFinite(raw);
  const least = f32(conf);
  const wanted = classes && new Set(classes);
  const rows = [];
  for (let at = 0; at < raw.length && rows.length < most; at += 6) {
    if (raw[at + 4] > least && (!wanted || wanted.has(Math.trunc(raw[at + 5])))) rows.push(at);
  }
  const xyxy = new Float32Array(4 * rows.length);
  rows.forEach((at, i) => xyxy.set(raw.subarray(at, at + 4), 4 * i));
  return {
    xyxy,
    scores: Float32Array.from(rows, (at) => raw[at + 4]),
    classId: Int32Array.from(rows, (at) => raw[at + 5]),
  };
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

function pick({ xyxy, scores, classId }, which) {
  const picked = new Float32Array(4 * which.length);
  which.forEach((from, to) => picked.set(xyxy.subarray(4 * from, 4 * from + 4), 4 * to));
  return {
    xyxy: picked,
    scores: Float32Array.from(which, (i) => scores[i]),
    classId: Int32Array.from(which, (i) => classId[i]),
  };
}

/** Refuse NaN and infinity, which would be no detection in silence. */
function checkFinite(numbers) {
  if (!numbers.every(Number.isFinite)) throw new Error("nan or infinity in the network's answer");
}
