// Draws masks onto a canvas: tinted with half of the object's colour, and outlined.

let scratch = null; // a canvas for one piece, kept as long as it is large enough

/**
 * @param {CanvasRenderingContext2D|OffscreenCanvasRenderingContext2D} context
 * @param {import("./masks.js").Masks} masks
 * @param {number[][]} colours of the objects: red, green, blue.
 * @param {number} scale pixels of the canvas per pixel of the picture.
 * @param {number} line width of the outlines.
 */
export function drawMasks(context, masks, colours, scale, line) {
  const zoom = scale / masks.scale;
  // From the worst to the best, so that the best lies on top.
  for (const [i, piece] of [...masks.pieces.entries()].reverse()) {
    const { top, left, height, width } = piece;
    const tint = tinted(piece, colours[i]);
    context.drawImage(tint, 0, 0, width, height, left * zoom, top * zoom, width * zoom, height * zoom);
    context.save();
    context.setTransform(zoom, 0, 0, zoom, left * zoom, top * zoom);
    context.lineWidth = line / zoom;
    context.lineCap = "round";
    context.strokeStyle = `rgb(${colours[i].join(" ")})`;
    context.stroke(outline(piece));
    context.restore();
  }
}

function tinted({ height, width, bits }, colour) {
  if (!scratch || scratch.width < width || scratch.height < height) {
    scratch = new OffscreenCanvas(Math.max(width, scratch?.width ?? 0), Math.max(height, scratch?.height ?? 0));
  }
  const tint = new ImageData(width, height);
  const pixels = new Uint32Array(tint.data.buffer);
  const [pixel] = new Uint32Array(Uint8Array.of(...colour, 128).buffer);
  for (let i = 0; i < bits.length; i++) if (bits[i]) pixels[i] = pixel;
  scratch.getContext("2d").putImageData(tint, 0, 0);
  return scratch;
}

/** The sides of pixels at which a mask ends, those in a row as one line. */
function outline({ height, width, bits }) {
  const path = new Path2D();
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && bits[y * width + x] === 1;
  for (let y = 0; y <= height; y++) trace(width, (x) => at(x, y) !== at(x, y - 1), (x) => [x, y], path);
  for (let x = 0; x <= width; x++) trace(height, (y) => at(x, y) !== at(x - 1, y), (y) => [x, y], path);
  return path;
}

function trace(length, ends, place, path) {
  for (let from = 0; from < length; from++) {
    if (!ends(from)) continue;
    path.moveTo(...place(from));
    while (from < length && ends(from)) from++;
    path.lineTo(...place(from));
  }
}
