// Masks of objects, each the piece inside the object's box; the twin of yolo_distill/runtime/masks.py.

import { checkFinite } from "./decode.js";
import { fit } from "./letterbox.js";

/**
 * @typedef {object} Masks
 * @property {number} scale pixels of the masks per pixel of the picture.
 * @property {{top: number, left: number, height: number, width: number, bits: Uint8Array}[]} pieces where each lies in
 *     pixels of the masks; 1 where the object is.
 */

/**
 * The masks of objects: weighed sums of prototypes, enlarged to the picture, above 0, and cut off at the box.
 *
 * @param {Float32Array} weights M an object.
 * @param {{data: Float32Array, dims: number[]}} protos (B, M, height, width), of which the first picture's are read.
 * @param {Float32Array} xyxy corners in pixels of the picture.
 * @param {ReturnType<typeof fit>} transform how the picture lies in the input.
 * @param {number} longest the longer side of the masks at most; those of larger pictures are smaller than they.
 * @returns {Masks}
 */
export function decodeMasks(weights, { data, dims: [, count, tall, wide] }, xyxy, { picture }, longest) {
  const scale = Math.min(longest / Math.max(...picture), 1);
  const size = picture.map((side) => Math.max(Math.round(side * scale), 1));
  const [rows, columns] = enlargements([tall, wide], picture, size);
  const pieces = [];
  for (let at = 0; at < weights.length; at += count) {
    // A pixel is inside if its number is: the first at or behind the left side, the last before the right one.
    const box = xyxy.subarray((4 * at) / count, (4 * at) / count + 4);
    const [left, top, right, bottom] = Array.from(box, (value) => Math.ceil(value * scale));
    const down = rows.slice(top, bottom);
    const across = columns.slice(left, right);
    const first = down[0]?.first ?? 0;
    const last = Math.min((down.at(-1)?.first ?? 0) + 3, tall);
    const sum = weighedSum(weights.subarray(at, at + count), data, tall * wide, first * wide, last * wide);
    checkFinite(sum, "masks");
    pieces.push({ top, left, height: down.length, width: across.length, bits: enlarge(sum, wide, first, down, across) });
  }
  return { scale, pieces };
}

/** The weighed sum of a part of the prototypes. */
function weighedSum(weights, protos, area, start, end) {
  const sum = new Float32Array(end - start);
  weights.forEach((weight, proto) => {
    const from = proto * area + start;
    for (let i = 0; i < sum.length; i++) sum[i] += weight * protos[from + i];
  });
  return sum;
}

/** Where a sum of prototypes, from row `first` on, is above 0 at some rows and columns of its enlargement. */
function enlarge(sum, wide, first, down, across) {
  const bits = new Uint8Array(down.length * across.length);
  // The rows of prototypes that are needed, enlarged to the right width.
  const between = new Float32Array((sum.length / wide) * across.length);
  for (let row = 0, to = 0; row * wide < sum.length; row++) {
    for (const tap of across) between[to++] = weigh(sum, row * wide + tap.first, 1, tap.weights);
  }
  down.forEach((tap, y) => {
    const start = (tap.first - first) * across.length;
    for (let x = 0; x < across.length; x++) {
      bits[y * across.length + x] = weigh(between, start + x, across.length, tap.weights) > 0 ? 1 : 0;
    }
  });
  return bits;
}

/** Three numbers or fewer, so far apart, weighed; those of no weight may be beyond the end. */
function weigh(numbers, at, step, [one, two, three]) {
  let sum = one * numbers[at];
  if (two) sum += two * numbers[at + step];
  if (three) sum += three * numbers[at + 2 * step];
  return sum;
}

/**
 * For each row, and each column, of an enlargement of prototypes: the first of theirs that counts, and three weights.
 *
 * Relies on: prototypes have a quarter of the input's sides, and Python enlarges them just so far that the padding can
 * be cut off at whole numbers before it enlarges what is left to the picture.
 */
function enlargements(protos, picture, size) {
  const { resized } = fit(picture, protos.map((side) => 4 * side));
  const padding = resized.map((side, axis) => 4 * protos[axis] - side);
  const factor = [1, 2].find((one) => padding.every((side) => (side * one) % 8 === 0)) ?? 4;
  const inside = fit(picture, protos.map((side) => factor * side));
  return [inside.top, inside.left].map((start, axis) => {
    const fine = taps(protos[axis], factor * protos[axis]).slice(start, start + inside.resized[axis]);
    return taps(fine.length, size[axis]).map(({ before, behind, share }) => {
      const first = fine[before].before;
      const weights = [0, 0, 0];
      for (const [one, weight] of [[fine[before], 1 - share], [fine[behind], share]]) {
        weights[one.before - first] += weight * (1 - one.share);
        weights[one.behind - first] += weight * one.share;
      }
      return { first, weights };
    });
  });
}

/** Between which two of so many given places each of `length` lies, bilinear, with the middles of pixels on each other. */
function taps(given, length) {
  return Array.from({ length }, (_, i) => {
    const place = Math.max((i + 0.5) * (given / length) - 0.5, 0);
    const before = Math.floor(place);
    return { before, behind: Math.min(before + 1, given - 1), share: place - before };
  });
}
