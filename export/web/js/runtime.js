// Finds the fastest way to run a network in this browser and opens it: WebGPU, else WASM with SIMD and threads.
//
// onnxruntime-web comes as two builds. The one with WebGPU is twice as large and a little slower on the CPU, so it is
// fetched only where there is a GPU to use it; where WebGPU fails, be it in the first run, the other one takes over.

const FOLDER = new URL("../ort/", import.meta.url);
const BUILDS = {
  webgpu: ["ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"],
  wasm: ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"],
};
// Phones have few fast cores; waiting for a slow one costs more than it gives.
const MOST_THREADS = 4;
const ERRORS_ONLY = 3;

/**
 * @typedef {object} Runtime a network that has answered once.
 * @property {"webgpu"|"wasm"} backend
 * @property {number} threads of WASM.
 * @property {string} why what kept it from a faster way; empty if nothing did.
 * @property {string[]} files of onnxruntime-web that it needs.
 * @property {(data: ArrayBufferView, dims: number[]) => Promise<{data: ArrayLike<number>, dims: number[]}>} run
 * @property {() => Promise<void>} close
 */

/**
 * @param {Uint8Array} bytes of the ONNX file.
 * @param {import("./model.js").Model} model the same file, read.
 * @param {?string} wanted "webgpu" or "wasm"; null for the fastest.
 * @returns {Promise<Runtime>}
 * @throws {Error} no back end can run it; the message says why.
 */
export async function openRuntime(bytes, model, wanted) {
  if (wanted === "wasm") return open("wasm", bytes, model, "");
  const obstacle = wanted === "webgpu" ? "" : await gpuObstacle(model);
  if (!obstacle) {
    try {
      return await open("webgpu", bytes, model, "");
    } catch (error) {
      return open("wasm", bytes, model, `WebGPU failed: ${oneLine(error)}`);
    }
  }
  return open("wasm", bytes, model, obstacle);
}

/** Why WebGPU is not to be used; empty if it is. */
async function gpuObstacle(model) {
  if (model.precision === "int8") return "int8 files are made for processors";
  if (!navigator.gpu) return isSecureContext ? "this browser has no WebGPU" : "WebGPU is for pages over https only";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  if (!adapter) return "no GPU that WebGPU can use";
  // A processor that plays the GPU is slower than itself.
  if (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter) return "no GPU, only a simulated one";
  const half = model.precision === "fp16" && !adapter.features.has("shader-f16");
  return half ? "this GPU does not compute in half precision" : "";
}

async function open(backend, bytes, model, why) {
  const [script] = BUILDS[backend];
  const ort = await import(new URL(script, FOLDER)).catch(() => {
    throw new Error("onnxruntime-web could not be loaded; reload the page, or check that the folder ort/ is whole");
  });
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threadsHere();
  let session;
  try {
    const options = { executionProviders: [backend], graphOptimizationLevel: "all", logSeverityLevel: ERRORS_ONLY };
    session = await ort.InferenceSession.create(bytes, options);
  } catch (error) {
    throw new Error(`${model.file}: ${whyUnusable(error, ort.env.versions.web)}`);
  }
  const run = async (data, dims) => {
    const input = new ort.Tensor(model.form.dtype, data, dims);
    return session.run({ [model.form.name]: input }, model.outputs);
  };
  // Shaders are compiled in the first run, and some GPUs fail only there.
  const { data, dims } = model.preprocess({ data: new Uint8ClampedArray(4), width: 1, height: 1 });
  await run(data, dims).catch(async (error) => {
    await session.release();
    throw new Error(`${model.file}: running the model failed: ${oneLine(error)}`);
  });
  const threads = backend === "wasm" ? ort.env.wasm.numThreads : 0;
  return { backend, threads, why, files: BUILDS[backend].map((name) => `ort/${name}`), run, close: () => session.release() };
}

/** Threads share memory, which browsers allow to isolated pages only. */
function threadsHere() {
  if (!globalThis.crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  return Math.min(cores > 2 ? Math.ceil(cores / 2) : cores, MOST_THREADS);
}

/** What onnxruntime's refusal of a model means: above all, which operator. */
function whyUnusable(error, version) {
  const text = oneLine(error);
  const operator =
    /Could not find an implementation for (\w+)\((\d+)\)/.exec(text) ??
    /No Op registered for (\w+) with domain_version of (\d+)/.exec(text);
  if (operator) return `onnxruntime-web ${version} has no operator ${operator[1]} (opset ${operator[2]})`;
  if (/out of memory/i.test(text)) return "this browser gave the page no memory for it; close other pages, then reload";
  return `onnxruntime-web ${version} cannot load it: ${text}`;
}

function oneLine(error) {
  return String(error?.message ?? error)
    .replace(/\s+/g, " ")
    .slice(0, 300)
    .replace(/[. ]+$/, "");
}
