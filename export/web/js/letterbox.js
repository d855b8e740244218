// Fits a picture into the network's input without distorting it, and takes boxes back to the picture.
// The twin of yolo_distill/runtime/letterbox.py; sizes are [height, width] in pixels.

import { roundHalfEven } from "./resize.js";

export const PADDING = 114; // the grey that the network was trained with

/**
 * How a picture is laid into an input: as large as fits, centred.
 *
 * @param {[number, number]} picture size of the picture.
 * @param {[number, number]} size of the input.
 * @returns {{picture: [number, number], input: [number, number], resized: [number, number], top: number, left: number}}
 */
export function fit(picture, size) {
  const ratio = Math.min(size[0] / picture[0], size[1] / picture[1]);
  const [tall, wide] = picture.map((side) => Math.max(roundHalfEven(side * ratio), 1));
  // An odd row or column of padding goes below and to the right.
  const top = Math.floor((size[0] - tall) / 2);
  const left = Math.floor((size[1] - wide) / 2);
  return { picture, input: size, resized: [tall, wide], top, left };
}

/**
 * Points in pixels of the picture, cut off at its borders, from points in pixels of the input.
 *
 * @param {Float32Array} points x and y of each; of a box two corners.
 * @param {ReturnType<typeof fit>} transform how the picture lies in the input.
 * @returns {Float32Array}
 */
export function toPicture(points, transform) {
  const { scale, offset } = wayBack(transform);
  const limit = [transform.picture[1], transform.picture[0]];
  return points.map((value, i) => {
    const moved = Math.fround(Math.fround(value - offset[i % 2]) / scale[i % 2]);
    return Math.min(Math.max(moved, 0), limit[i % 2]);
  });
}

/** Turned boxes likewise, five numbers a box, which may leave the picture. */
export function turnedToPicture(xywhr, transform) {
  const { scale, offset } = wayBack(transform);
  return xywhr.map((value, i) => {
    if (i % 5 === 4) return value;
    return Math.fround(value - (i % 5 < 2 ? offset[i % 5] : 0)) / scale[(i % 5) % 2];
  });
}

/** The two sides are rounded apart, so each has a scale of its own: x, y. */
function wayBack({ picture: [height, width], resized: [tall, wide], left, top }) {
  return { scale: [Math.fround(wide / width), Math.fround(tall / height)], offset: [left, top] };
}
