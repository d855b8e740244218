// What the tests of the twins share: the golden files, and the pictures that they were made of.

import { readFileSync } from "node:fs";

/** The cases of a golden file. */
export function golden(name) {
  return JSON.parse(readFileSync(new URL(`../golden/${name}.json`, import.meta.url), "utf8"));
}

/** The picture that tests/golden/make.py makes for a size, as a browser gives it: red, green, blue, alpha. */
export function picture(height, width) {
  const data = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const noise = (((x * 7919 + y * 104729 + channel * 1299709) * 48271) % 2147483647) % 97;
        data[4 * (y * width + x) + 2 - channel] = (x * 3 + y * 5 + channel * 40 + noise) % 256;
      }
    }
  }
  return { data, width, height };
}

/** The largest difference between two lists of numbers of equal length. */
export function difference(some, others) {
  if (some.length !== others.length) return Infinity;
  return some.reduce((most, value, i) => Math.max(most, Math.abs(value - others[i])), 0);
}
