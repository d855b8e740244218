// Greedy non-maximum suppression; the twin of yolo_distill/runtime/nms.py, rounded to float32 where numpy is.

// Boxes of different classes are moved this far apart, so that one pass serves all classes.
export const CLASS_OFFSET = 7680;

const f32 = Math.fround;

/**
 * The indices of the boxes that stay, best first. A box goes if it overlaps a better one that stays by more than `iou`;
 * of equal scores the earlier box is better.
 *
 * @param {Float32Array} xyxy corners in pixels, four a box.
 * @param {Float32Array} scores
 * @param {Int32Array} classId boxes of different classes leave each other alone.
 * @param {{iou: number, limit: number, agnostic?: boolean}} settings overlap, most boxes, whether classes matter not.
 * @returns {number[]}
 */
export function nms(xyxy, scores, classId, { iou, limit, agnostic = false }) {
  const order = byScore(scores);
  const boxes = agnostic ? xyxy : xyxy.map((value, i) => value + f32(classId[i >> 2] * CLASS_OFFSET));
  const areas = order.map(() => 0);
  for (const i of order) areas[i] = area(boxes, 4 * i);
  const threshold = atMost(iou);
  const kept = [];
  for (const candidate of order) {
    if (kept.length >= limit) break;
    const covered = kept.some((better) => overlap(boxes, areas, better, candidate) > threshold);
    if (!covered) kept.push(candidate);
  }
  return kept;
}

/** Indices from the highest score to the lowest, earlier ones first where scores are equal. */
export function byScore(scores) {
  return Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
}

function area(boxes, at) {
  return f32(f32(boxes[at + 2] - boxes[at]) * f32(boxes[at + 3] - boxes[at + 1]));
}

/** Intersection over union of two boxes; NaN, which is above nothing, where both are without area. */
function overlap(boxes, areas, one, other) {
  const a = 4 * one;
  const b = 4 * other;
  const wide = f32(Math.min(boxes[a + 2], boxes[b + 2]) - Math.max(boxes[a], boxes[b]));
  const tall = f32(Math.min(boxes[a + 3], boxes[b + 3]) - Math.max(boxes[a + 1], boxes[b + 1]));
  const shared = f32(Math.max(wide, 0) * Math.max(tall, 0));
  return f32(shared / f32(f32(areas[one] + areas[other]) - shared));
}

/** The largest float32 that is not above a number: overlaps are compared as if in float64. */
export function atMost(number) {
  const nearest = f32(number);
  if (nearest <= number) return nearest;
  const bits = new Int32Array(1);
  const float = new Float32Array(bits.buffer);
  float[0] = nearest;
  bits[0] -= 1; // the next one towards 0; overlaps are never below it
  return float[0];
}
