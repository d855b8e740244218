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
    const [down, across] = [part(rows, top, bottom), part(columns, left, right)];
    const place = { top, left, height: down.first.length, width: across.first.length };
    const own = weights.subarray(at, at + count);
    const sum = weighedSum(own, data, [tall, wide], reach(down, tall), reach(across, wide));
    checkFinite(sum.data, "masks");
    pieces.push({ ...place, bits: enlarge(sum, down, across) });
  }
  return { scale, pieces };
}

/** The first of the prototypes' rows or columns that count for a part of the picture's, and how many do. */
function reach({ first }, length) {
  return first.length ? [first[0], Math.min(first.at(-1) + 3, length) - first[0]] : [0, 0];
}

/** The weighed sum of a part of the prototypes, and two zeros: weights of nothing reach beyond the end. */
function weighedSum(weights, protos, [tall, wide], [top, rows], [left, columns]) {
  const data = new Float32Array(rows * columns + 2);
  for (let proto = 0; proto < weights.length; proto++) {
    const weight = weights[proto];
    for (let row = 0; row < rows; row++) {
      const from = (proto * tall + top + row) * wide + left;
      const to = row * columns;
      for (let i = 0; i < columns; i++) data[to + i] += weight * protos[from + i];
    }
  }
  return { data, top, left, rows, columns };
}

/** Where a sum of prototypes is above 0 at some rows and columns of its enlargement. */
function enlarge(sum, down, across) {
  const [height, width] = [down.first.length, across.first.length];
  const bits = new Uint8Array(height * width);
  // The rows of prototypes that are needed, enlarged to the right width, and two of zeros.
  const between = new Float32Array((sum.rows + 2) * width);
  for (let row = 0, to = 0; row < sum.rows; row++) {
    const start = row * sum.columns - sum.left;
    for (let x = 0; x < width; x++) between[to++] = weigh(sum.data, start + across.first[x], 1, across.weights, 3 * x);
  }
  for (let y = 0, to = 0; y < height; y++) {
    const start = (down.first[y] - sum.top) * width;
    for (let x = 0; x < width; x++) bits[to++] = weigh(between, start + x, width, down.weights, 3 * y) > 0 ? 1 : 0;
  }
  return bits;
}

/** Three numbers so far apart, weighed. */
function weigh(numbers, at, step, weights, place) {
  const sum = weights[place] * numbers[at] + weights[place + 1] * numbers[at + step];
  return sum + weights[place + 2] * numbers[at + 2 * step];
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
    const first = new Int32Array(size[axis]);
    const weights = new Float32Array(3 * size[axis]);
    taps(fine.length, size[axis]).forEach(({ before, behind, share }, i) => {
      first[i] = fine[before].before;
      for (const [one, weight] of [[fine[before], 1 - share], [fine[behind], share]]) {
        weights[3 * i + one.before - first[i]] += weight * (1 - one.share);
        weights[3 * i + one.behind - first[i]] += weight * one.share;
      }
    });
    return { first, weights };
  });
}

function part({ first, weights }, start, end) {
  return { first: first.subarray(start, end), weights: weights.subarray(3 * start, 3 * end) };
}

/** Between which two of so many given places each of `length` lies: bilinear, middles of pixels on each other. */
function taps(given, length) {
  return Array.from({ length }, (_, i) => {
    const place = Math.max((i + 0.5) * (given / length) - 0.5, 0);
    const before = Math.floor(place);
    return { before, behind: Math.min(before + 1, given - 1), share: place - before };
  });
}
