// Decodes pictures and takes the pixels out of pictures and video frames, in the worker: large ones take their time.

// A photograph of 12 megapixels is drawn, and drawn again, from a copy of the size of a screen.
const MOST_SIDE = 2048;
// Some browsers give a canvas of more pixels than that no memory, and leave it black without a word.
const SAFE_PIXELS = 4096 * 4096;
// A canvas is kept for the next frame of a camera or video, but not the size of a photograph.
const KEPT_PIXELS = 4_000_000;

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
  if (context?.canvas.width !== width || context?.canvas.height !== height) context = contextOf(width, height);
  context.drawImage(frame, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  if (width * height > KEPT_PIXELS) context = null;
  return pixels;
}

/** In main memory: the pixels are wanted there, and never shown. */
function contextOf(width, height) {
  return new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, alpha: false });
}

/** Whether this browser has a canvas of that size. */
function fits(width, height) {
  if (width * height <= SAFE_PIXELS) return true;
  const probe = contextOf(width, height);
  if (!probe) return false;
  probe.fillStyle = "#fff";
  probe.fillRect(0, 0, 1, 1);
  return probe.getImageData(0, 0, 1, 1).data[0] === 255;
}

/**
 * Decode a picture file. Colours are as they stand in it, turned as its EXIF says: what Python's reader gives.
 * That it is turned goes without saying: Safari before 17 knows no word for it, and fails.
 *
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}
 */
export async function decode(file) {
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    const name = file.name ?? "The picture";
    throw new Error(`${name}: this browser cannot read it as a picture; PNG, JPEG and WebP it can`);
  }
  const { width, height } = picture;
  if (fits(width, height)) return picture;
  const smaller = await shrunk(picture, Math.sqrt(SAFE_PIXELS / (width * height)));
  picture.close();
  return smaller;
}

/** A copy of a large frame to draw from; null where the frame itself will do. @returns {Promise<?ImageBitmap>} */
export async function copyForScreen(frame) {
  const ratio = MOST_SIDE / Math.max(frame.width ?? 0, frame.height ?? 0);
  if (!(frame instanceof ImageBitmap) || ratio >= 1) return null;
  return shrunk(frame, ratio);
}

function shrunk(picture, ratio) {
  const [resizeWidth, resizeHeight] = [picture.width, picture.height].map((side) => Math.max(Math.floor(side * ratio), 1));
  return createImageBitmap(picture, { resizeWidth, resizeHeight, resizeQuality: "medium" });
}
