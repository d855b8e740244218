// Numbers of 16 bits (IEEE 754 binary16) as bits in a Uint16Array, for browsers without Float16Array.

import { roundHalfEven } from "./resize.js";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bits of the float16 nearest to a number from 0 to 65504, halves to the even one. */
export function toHalf(value) {
  float[0] = value;
  const exponent = (bits[0] >> 23) - 127 + 15;
  if (exponent <= 0) return roundHalfEven(value * 2 ** 24); // below float16's normal numbers: steps of 2^-24
  const mantissa = bits[0] & 0x7fffff;
  return (exponent << 10) + roundHalfEven(mantissa / 8192); // a mantissa rounded up to 1024 carries into the exponent
}

/** The number that the bits of a float16 stand for. */
export function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 0x1f) return mantissa ? NaN : sign * Infinity;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}
