// Decodes pictures and takes the pixels out of pictures and video frames, in the worker: large ones take their time.

// A photograph of 12 megapixels is drawn, and drawn again, from a copy of the size of a screen.
const MOST_SIDE = 2048;

let canvas = null;
let context = null;

/**
 * The pixels of a frame as shown: red, green, blue, alpha, four bytes a pixel.
 *
 * @param {VideoFrame|ImageBitmap} frame
 * @returns {ImageData}
 */
export function pixelsOf(frame) {
  const width = frame.displayWidth ?? frame.width;
  const height = frame.displayHeight ?? frame.height;
  if (canvas?.width !== width || canvas?.height !== height) {
    canvas = new OffscreenCanvas(width, height);
    // In main memory: the pixels are wanted there, and never shown.
    context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  }
  context.drawImage(frame, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/**
 * Decode a picture file. Colours are as they stand in it, turned as its EXIF says: what Python's reader gives.
 *
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}
 */
export async function decode(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    const name = file.name ?? "The picture";
    throw new Error(`${name}: this browser cannot read it as a picture; PNG, JPEG and WebP it can`);
  }
}

/** A copy of a large frame to draw from; null where the frame itself will do. @returns {Promise<?ImageBitmap>} */
export async function copyForScreen(frame) {
  const ratio = MOST_SIDE / Math.max(frame.width ?? 0, frame.height ?? 0);
  if (!(frame instanceof ImageBitmap) || ratio >= 1) return null;
  const [resizeWidth, resizeHeight] = [frame.width, frame.height].map((side) => Math.max(Math.round(side * ratio), 1));
  return createImageBitmap(frame, { resizeWidth, resizeHeight, resizeQuality: "medium" });
}
