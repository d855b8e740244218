// The page's side of the worker: questions and their answers as promises. See worker.js for what is said.

export class Detector {
  /** @param {Worker} worker */
  constructor(worker) {
    this.worker = worker;
    this.asked = new Map();
    this.count = 0;
    this.opening = []; // answered in the order asked
    this.broken = null;
    /** Told bytes so far and in all while a model is downloaded. @type {(loaded: number, total: number) => void} */
    this.onprogress = () => {};
    worker.onmessage = ({ data }) => this.hear(data);
    worker.onerror = (event) => this.fail(event.message || "the worker could not be started; reload the page");
  }

  /**
   * Open a model.
   *
   * @param {{name: string, url?: string, file?: File, backend?: ?string}} model a name, and where it is; see runtime.js
   *     for the back end.
   * @returns {Promise<object>} what worker.js tells when it is ready.
   */
  open(model) {
    return new Promise((resolve, reject) => {
      if (this.broken) reject(this.broken);
      this.opening.push({ resolve, reject });
      this.worker.postMessage({ do: "open", ...model });
    });
  }

  /**
   * Find objects in a frame, which comes back with the answer; of a file, the decoded picture.
   *
   * @param {VideoFrame|ImageBitmap|Blob} frame
   * @param {{conf: number, iou: number, classes: ?number[]}} settings
   */
  find(frame, settings) {
    return this.ask({ do: "find", frame, settings }, frame instanceof Blob ? [] : [frame]);
  }

  /** What the last frame holds under other settings; `found` is null if there was none. */
  again(settings) {
    return this.ask({ do: "again", settings }, []);
  }

  ask(question, transfer) {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      if (this.broken) reject(this.broken);
      this.asked.set(id, { resolve, reject });
      this.worker.postMessage({ ...question, id }, transfer);
    });
  }

  hear({ tell, id, ...said }) {
    if (tell === "progress") return this.onprogress(said.loaded, said.total);
    if (tell === "ready") return this.opening.shift().resolve(said);
    if (tell === "refused") return this.opening.shift().reject(new Error(said.message));
    const { resolve, reject } = this.asked.get(id);
    this.asked.delete(id);
    if (tell === "found") return resolve(said);
    return reject(new Error(said.message));
  }

  /** The worker itself broke: nobody has to wait any longer. */
  fail(message) {
    this.broken = new Error(message);
    for (const { reject } of [...this.opening, ...this.asked.values()]) reject(this.broken);
    this.opening = [];
    this.asked.clear();
  }
}
