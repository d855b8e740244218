// What went wrong and how things stand, in words for people.

const CAMERA = {
  NotAllowedError: "The camera was refused. Allow it for this page in the browser's settings, or open a picture or video.",
  NotFoundError: "No camera was found. Plug one in, or open a picture or video.",
  NotReadableError: "The camera is in use by another program. Close that one, or open a picture or video.",
  OverconstrainedError: "That camera is not there any more. Start the camera again.",
};

/**
 * Why there is no camera.
 *
 * @param {?Error} error of getUserMedia; null if there is no such thing.
 * @param {boolean} secure whether the page came over https or from this machine.
 */
export function cameraTrouble(error, secure) {
  if (!secure) {
    return "Browsers give a camera only to pages over https, or from this machine (localhost). Pictures and videos work.";
  }
  if (!error) return "This browser gives pages no camera. Pictures and videos work.";
  return CAMERA[error.name] ?? `The camera could not be started (${error.message || error.name}).`;
}

/** "WebGPU", or "WASM, 2 threads". */
export function backendWords({ backend, threads }) {
  if (backend === "webgpu") return "WebGPU";
  return `WASM, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

/** Why it is not faster, in a sentence; empty if it could not be. */
export function slowWords({ backend, threads, why }, isolated) {
  const reasons = [];
  if (why) reasons.push(`${why[0].toUpperCase()}${why.slice(1)}: the processor computes.`);
  if (backend === "wasm" && threads === 1 && !isolated) {
    reasons.push(
      isSecureContext
        ? "One thread only, as this server does not isolate the page; from the next visit on there are more."
        : "One thread only: browsers share memory between threads over https or on localhost alone.",
    );
  }
  return reasons.join(" ");
}

/** "3 round, 1 square", most first. */
export function foundWords(classId, names) {
  const counts = countClasses(classId);
  return counts.map(([index, count]) => `${count} ${names[index]}`).join(", ") || "nothing";
}

/** Pairs of class index and count, most first. */
export function countClasses(classId) {
  const counts = new Map();
  for (const index of classId) counts.set(index, (counts.get(index) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

/** "3.1 MB". */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
