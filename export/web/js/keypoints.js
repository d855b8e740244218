// Keypoints of objects; the twin of yolo_distill/runtime/keypoints.py.

import { toPicture } from "./letterbox.js";

/** The bones of a person's 17 points, as COCO has them: from and to. */
export const PERSON = [
  [15, 13], [13, 11], [16, 14], [14, 12], [11, 12], [5, 11], [6, 12], [5, 6], [5, 7], [6, 8], [7, 9], [8, 10],
  [1, 2], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6],
];

/**
 * @typedef {object} Keypoints
 * @property {Float32Array} data x and y in pixels of the picture, inside it, and perhaps how sure the point is, 0 to 1.
 * @property {[number, number]} shape keypoints an object, and numbers each.
 */

/** Keypoints from the network's numbers, x and y in pixels of the input. */
export function decodeKeypoints(numbers, shape, transform) {
  const each = shape[1];
  const data = numbers.slice();
  for (let at = 0; at < data.length; at += each) data.set(toPicture(data.subarray(at, at + 2), transform), at);
  return { data, shape };
}

/** The points of an object: where each is, and whether it is there to be drawn. */
export function pointsOf({ data, shape: [count, each] }, object) {
  return Array.from({ length: count }, (_, number) => {
    const [x, y, sure] = data.subarray(each * (count * object + number), each * (count * object + number + 1));
    return { x, y, seen: each === 3 ? sure >= 0.25 : x !== 0 || y !== 0 };
  });
}
