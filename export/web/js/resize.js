// Resizes a picture as OpenCV's `cv2.resize(..., interpolation=cv2.INTER_LINEAR)` does on bytes, bit for bit.
//
// A canvas scales as its browser likes, so that the same file would find other boxes here than in Python. OpenCV's
// way is: pixel centres on half-integers; weights of 11 bits; sums across kept as integers and cut by 4 bits before the
// sum down, which is rounded once at its end. Exactly halved pictures are means of 2 x 2 pixels there, and so here.

const ONE = 2048; // a weight of 1

/** Round to the nearest whole number, halves to the even one, as Python and OpenCV do. */
export function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.floor(value + 0.5);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Resize and drop alpha.
 *
 * @param {Uint8Array|Uint8ClampedArray} rgba of the picture, four bytes a pixel.
 * @param {number} width of the picture.
 * @param {number} height of the picture.
 * @param {number} wide width of the result.
 * @param {number} tall height of the result.
 * @param {Uint8Array} [into] where to put the result.
 * @returns {Uint8Array} red, green, blue of the result, three bytes a pixel.
 */
export function resize(rgba, width, height, wide, tall, into = new Uint8Array(3 * wide * tall)) {
  if (wide === width && tall === height) dropAlpha(rgba, into);
  else if (2 * wide === width && 2 * tall === height) halve(rgba, width, wide, tall, into);
  else bilinear(rgba, width, height, wide, tall, into);
  return into;
}

function dropAlpha(rgba, into) {
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    into[to] = rgba[from];
    into[to + 1] = rgba[from + 1];
    into[to + 2] = rgba[from + 2];
  }
}

function halve(rgba, width, wide, tall, into) {
  const below = 4 * width;
  let to = 0;
  for (let y = 0; y < tall; y++) {
    let from = 2 * y * below;
    for (let x = 0; x < wide; x++, from += 8) {
      for (let c = from; c < from + 3; c++) {
        into[to++] = (rgba[c] + rgba[c + 4] + rgba[c + below] + rgba[c + below + 4] + 2) >> 2;
      }
    }
  }
}

function bilinear(rgba, width, height, wide, tall, into) {
  const across = weights(width, wide);
  const down = weights(height, tall);
  // Two rows of the picture, resized across; the next row of the result mostly needs one of them again.
  const rows = [new Int32Array(3 * wide), new Int32Array(3 * wide)];
  const held = [-1, -1];
  for (let y = 0, to = 0; y < tall; y++) {
    const above = Math.max(Math.min(down.at[y], height - 1), 0);
    const below = Math.max(Math.min(down.at[y] + 1, height - 1), 0);
    if (held[1] === above || held[0] === below) {
      rows.reverse();
      held.reverse();
    }
    [above, below].forEach((row, place) => {
      if (held[place] !== row) acrossRow(rgba, 4 * width * row, width, across, rows[place]);
      held[place] = row;
    });
    const [first, second] = rows;
    const b0 = down.first[y];
    const b1 = down.second[y];
    for (let i = 0; i < first.length; i++) {
      into[to++] = (((b0 * first[i]) >> 16) + ((b1 * second[i]) >> 16) + 2) >> 2;
    }
  }
}

/** Resize one row of the picture across; what OpenCV cuts off each sum before the sum down is cut off already. */
function acrossRow(rgba, start, width, across, row) {
  const { at, first, second } = across;
  for (let x = 0, to = 0; x < at.length; x++, to += 3) {
    // Beyond the borders there is nothing to mix with.
    const outside = at[x] < 0 || at[x] >= width - 1;
    const left = start + 4 * Math.max(Math.min(at[x], width - 1), 0);
    const right = outside ? left : left + 4;
    const a0 = outside ? ONE : first[x];
    const a1 = outside ? 0 : second[x];
    row[to] = (rgba[left] * a0 + rgba[right] * a1) >> 4;
    row[to + 1] = (rgba[left + 1] * a0 + rgba[right + 1] * a1) >> 4;
    row[to + 2] = (rgba[left + 2] * a0 + rgba[right + 2] * a1) >> 4;
  }
}

/** For each pixel along a side of the result, the pixel of the picture before it and the weights of that and the next. */
function weights(from, to) {
  const scale = 1 / (to / from); // not from / to, which may round otherwise
  const at = new Int32Array(to);
  const first = new Int32Array(to);
  const second = new Int32Array(to);
  for (let i = 0; i < to; i++) {
    const place = Math.fround((i + 0.5) * scale - 0.5);
    at[i] = Math.floor(place);
    const rest = Math.fround(place - at[i]);
    first[i] = roundHalfEven(Math.fround(1 - rest) * ONE);
    second[i] = roundHalfEven(rest * ONE);
  }
  return { at, first, second };
}
