// Runs the detector, away from the page, which stays free to draw and to listen.
//
// Asked {do: "open", name, url | file, backend}: tells {tell: "progress", loaded, total}, then {tell: "ready", ...} or
//   {tell: "refused", message}.
// Asked {do: "find", id, frame, settings}: tells {tell: "found", id, frame, copy, found, times}, the frame handed back,
//   with a copy to draw from if it is large; or {tell: "failed", id, message}. A frame may be a picture file as well,
//   which comes back decoded.
// Asked {do: "again", id, settings}: what the last frame holds under other settings; no network is run.

import { download } from "./download.js";
import { Model } from "./model.js";
import { copyForScreen, decode, pixelsOf } from "./pixels.js";
import { openRuntime } from "./runtime.js";

let model = null;
let runtime = null;
let last = null; // the raw answer to the last frame, and how the frame lay in the input

// Masks of larger pictures are smaller than they: that many pixels are enough for a screen.
const MASK_SIDE = 1024;

const tell = (message, transfer = []) => self.postMessage(message, transfer);

async function open({ name, url, file, backend: wanted }) {
  const bytes = file
    ? new Uint8Array(await file.arrayBuffer())
    : await download(url, name, (loaded, total) => tell({ tell: "progress", loaded, total }));
  const opened = new Model(bytes, name);
  const other = await openRuntime(bytes, opened, wanted);
  await runtime?.close();
  runtime = other;
  model = opened;
  last = null;
  const { names, imgsz, end2end, precision } = model;
  const { backend, threads, why, files } = runtime;
  tell({ tell: "ready", name, names, imgsz, end2end, precision, backend, threads, why, files });
}

async function find({ id, frame: given, settings }) {
  const start = performance.now();
  const frame = given instanceof Blob ? await decode(given) : given;
  try {
    const { data, dims, transform } = model.preprocess(pixelsOf(frame));
    const prepared = performance.now();
    last = { answer: await runtime.run(data, dims), transform };
    const answered = performance.now();
    const found = decoded(settings);
    const times = { preprocess: prepared - start, infer: answered - prepared, decode: performance.now() - answered };
    const copy = await copyForScreen(frame);
    tell({ tell: "found", id, frame, copy, found, times }, copy ? [frame, copy] : [frame]);
  } catch (error) {
    frame.close();
    throw error;
  }
}

function again({ id, settings }) {
  tell({ tell: "found", id, found: last && decoded(settings) });
}

function decoded(settings) {
  return model.postprocess(last.answer, last.transform, { ...settings, maskSide: MASK_SIDE });
}

async function answer(request) {
  try {
    await { open, find, again }[request.do](request);
  } catch (error) {
    const message = error.message;
    if (request.do === "open") tell({ tell: "refused", message });
    else tell({ tell: "failed", id: request.id, message });
  }
}

// One after another: no network is closed while it runs.
let turn = Promise.resolve();
self.onmessage = ({ data }) => {
  turn = turn.then(() => answer(data));
};
