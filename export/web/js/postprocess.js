// From the network's raw answer for one picture to what was found, for each task; the twin of
// yolo_distill/runtime/postprocess.py.

import { decodeDense, decodeEnd2end, pick } from "./decode.js";
import { decodeKeypoints } from "./keypoints.js";
import { toPicture, turnedToPicture } from "./letterbox.js";
import { decodeMasks } from "./masks.js";
import { upright, withAngle } from "./turned-boxes.js";

/**
 * @typedef {object} Found what was found in a picture, best first, in its pixels.
 * @property {Float32Array} xyxy corners, four a box; of turned boxes those of the upright ones around them.
 * @property {Float32Array} scores
 * @property {Int32Array} classId
 * @property {import("./masks.js").Masks} [masks] of task segment.
 * @property {import("./keypoints.js").Keypoints} [keypoints] of task pose.
 * @property {Float32Array} [turned] of task obb: centre x, centre y, width, height and angle, five numbers a box.
 */

/** What a file's answers mean. */
export class Postprocess {
  /**
   * @param {import("./metadata.js").Metadata} notes
   * @param {boolean} end2end which layout the answers have, see decode.js.
   */
  constructor({ names, task, kptShape }, end2end) {
    Object.assign(this, { nc: names.length, task, kptShape, end2end });
  }

  /** Whether these are the shapes of an answer; names stand for sides that are not fixed. */
  fits(shapes) {
    const sides = this.task === "segment" ? [3, 4] : [3];
    if (shapes.length !== sides.length || shapes.some((shape, i) => shape.length !== sides[i])) return false;
    const own = this.task === "segment" ? shapes[1][1] : this.own;
    const [side, boxes] = this.end2end ? [shapes[0][2], 6] : [shapes[0][1], 4 + this.nc];
    return typeof side === "number" && typeof own === "number" ? side === boxes + own : true;
  }

  /** Numbers of the task for each box; of "segment" the answer itself says how many. */
  get own() {
    if (this.task === "pose") return this.kptShape[0] * this.kptShape[1];
    return this.task === "obb" ? 1 : 0;
  }

  /** The shapes of an answer in words. */
  expected() {
    const { nc, task, kptShape } = this;
    const own = { segment: " + M", pose: ` + ${kptShape?.join("x")} of keypoints`, obb: " + 1" }[task] ?? "";
    const protos = task === "segment" ? " and prototypes (B, M, height, width)" : "";
    return `(B, ${4 + nc}${own}, A) for ${nc} classes, or (B, N, 6${own})${protos}`;
  }

  /**
   * What was found in the first picture.
   *
   * @param {{data: Float32Array, dims: number[]}[]} answer rows of boxes, and of "segment" the prototypes.
   * @param {ReturnType<typeof import("./letterbox.js").fit>} transform how the picture lies in the input.
   * @param {object} settings conf, iou, most, classes and agnostic, as the decoders take them; maskSide, the longer
   *     side of the masks at most.
   * @returns {Found}
   */
  decode([{ data, dims }, protos], transform, { maskSide = Infinity, ...settings }) {
    const { nc, task, end2end } = this;
    const form = { nc, own: protos ? protos.dims[1] : this.own, turned: task === "obb" };
    const rows = data.subarray(0, dims[1] * dims[2]);
    const { own, ...boxes } = (end2end ? decodeEnd2end : decodeDense)(rows, form, settings);
    if (task === "obb") {
      const turned = turnedToPicture(withAngle({ ...boxes, own }), transform);
      return { ...boxes, xyxy: upright(turned, transform.picture), turned };
    }
    const found = { ...boxes, xyxy: toPicture(boxes.xyxy, transform) };
    if (task === "pose") return { ...found, keypoints: decodeKeypoints(own, this.kptShape, transform) };
    return protos ? segmented(found, decodeMasks(own, protos, found.xyxy, transform, maskSide)) : found;
  }
}

/** What shows not one pixel was not found. */
function segmented(found, { scale, pieces }) {
  const shown = [...pieces.keys()].filter((i) => pieces[i].bits.includes(1));
  const { own, ...boxes } = pick({ ...found, own: new Float32Array() }, shown);
  return { ...boxes, masks: { scale, pieces: shown.map((i) => pieces[i]) } };
}
