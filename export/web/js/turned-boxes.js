// Turned boxes: centre x, centre y, width, height, and the angle in radians, clockwise as a picture shows it.
// The twin of yolo_distill/runtime/turned_boxes.py.

import { byScore, CLASS_OFFSET } from "./nms.js";

const EPS = 1e-7;

/** Five numbers a box, from boxes of four and their own numbers, of which the last is the angle. */
export function withAngle({ xyxy, scores, own }) {
  const each = own.length / scores.length;
  const numbers = new Float32Array(5 * scores.length);
  for (let i = 0; i < scores.length; i++) {
    numbers.set(xyxy.subarray(4 * i, 4 * i + 4), 5 * i);
    numbers[5 * i + 4] = own[each * (i + 1) - 1];
  }
  return numbers;
}

/** The corners of boxes, eight numbers a box, in the order in which Python has them. */
export function corners(xywhr) {
  const points = new Float32Array((xywhr.length / 5) * 8);
  for (let i = 0; 5 * i < xywhr.length; i++) {
    const [x, y, wide, tall, angle] = xywhr.subarray(5 * i, 5 * i + 5);
    const [cos, sin] = [Math.cos(angle) / 2, Math.sin(angle) / 2];
    [[1, 1], [1, -1], [-1, -1], [-1, 1]].forEach(([along, across], corner) => {
      points[8 * i + 2 * corner] = x + along * wide * cos - across * tall * sin;
      points[8 * i + 2 * corner + 1] = y + along * wide * sin + across * tall * cos;
    });
  }
  return points;
}

/** The upright boxes around turned ones, cut off at the borders of a picture ([height, width]). */
export function upright(xywhr, [height, width]) {
  const points = corners(xywhr);
  return Float32Array.from({ length: (xywhr.length / 5) * 4 }, (_, i) => {
    const side = [0, 2, 4, 6].map((corner) => points[8 * (i >> 2) + corner + (i % 2)]);
    return Math.min(Math.max(i % 4 < 2 ? Math.min(...side) : Math.max(...side), 0), i % 2 ? height : width);
  });
}

/**
 * The indices of the turned boxes that stay, best first; the arguments are those of `nms`.
 *
 * A box goes if *any* better one overlaps it by more than `iou`, even one that goes itself, and the overlap is that of
 * two normal distributions.
 */
export function turnedNms(xywhr, scores, classId, { iou, limit, agnostic = false }) {
  const order = byScore(scores);
  const threshold = Math.fround(iou);
  const normals = order.map((i) => normal(xywhr.subarray(5 * i, 5 * i + 5), agnostic ? 0 : classId[i]));
  const kept = [];
  for (let i = 0; i < order.length && kept.length < limit; i++) {
    let better = 0;
    while (better < i && !(overlap(normals[better], normals[i]) > threshold)) better++;
    if (better === i) kept.push(order[i]);
  }
  return kept;
}

/** A box taken for a uniform distribution: x, y, and the three numbers of the covariance. */
function normal([x, y, wide, tall, angle], classId) {
  const shift = Math.fround(classId * CLASS_OFFSET);
  const [a, b, cos, sin] = [wide ** 2 / 12, tall ** 2 / 12, Math.cos(angle), Math.sin(angle)];
  return {
    x: Math.fround(x + shift),
    y: Math.fround(y + shift),
    a: a * cos ** 2 + b * sin ** 2,
    b: a * sin ** 2 + b * cos ** 2,
    c: (a - b) * cos * sin,
  };
}

/** 1 - the Hellinger distance of two normal distributions; the Python twin names the paper. */
function overlap(one, other) {
  const [a, b, c] = [one.a + other.a, one.b + other.b, one.c + other.c];
  const [dx, dy] = [other.x - one.x, one.y - other.y];
  const determinant = a * b - c * c;
  const own = [one, other].map((each) => Math.max(each.a * each.b - each.c ** 2, 0));
  const distance =
    (a * dy * dy + b * dx * dx + 2 * c * dx * dy) / (determinant + EPS) / 4 +
    Math.log(determinant / (4 * Math.sqrt(own[0] * own[1]) + EPS) + EPS) / 2;
  return 1 - Math.sqrt(1 - Math.exp(-Math.min(Math.max(distance, EPS), 100)) + EPS);
}
