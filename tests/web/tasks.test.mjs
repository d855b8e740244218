import assert from "node:assert/strict";
import test from "node:test";

import { pointsOf } from "../../export/web/js/keypoints.js";
import { decodeMasks } from "../../export/web/js/masks.js";
import { Postprocess } from "../../export/web/js/postprocess.js";
import { corners } from "../../export/web/js/turned-boxes.js";
import { difference, golden } from "./golden.mjs";

const names = ["a", "b", "c"];

function tensor(numbers, dims) {
  return { data: Float32Array.from(numbers.flat(Infinity)), dims: [1, ...dims] };
}

for (const { task, kpt_shape: kptShape, end2end, transform, raw, protos, runs } of golden("tasks")) {
  const meaning = new Postprocess({ names, task, kptShape }, end2end);
  const answer = [tensor(raw, [raw.length, raw[0].length])];
  if (protos) answer.push(tensor(protos, [protos.length, 16, 16]));
  for (const { settings, ...expected } of runs) {
    const { max_det: most, ...rest } = settings;
    const about = `${task} of ${transform.picture}, ${end2end ? "end to end" : "dense"}`;
    test(`${about}, with ${JSON.stringify(settings)}`, () => {
      assert.ok(meaning.fits(answer.map(({ dims }) => dims)));
      const found = meaning.decode(answer, transform, { most, ...rest });
      assert.deepEqual(Array.from(found.classId), expected.class_id);
      assert.ok(difference(found.xyxy, expected.xyxy.flat()) <= 1e-3);
      assert.ok(difference(found.scores, expected.scores) <= 1e-6);
      if (task === "segment") sameMasks(found.masks.pieces, expected.masks);
      if (task === "pose") {
        assert.ok(difference(found.keypoints.data, expected.keypoints.flat(2)) <= 1e-3);
        const seen = expected.seen.map((_, i) => pointsOf(found.keypoints, i).map((point) => point.seen));
        assert.deepEqual(seen, expected.seen);
      }
      if (task === "obb") {
        assert.ok(difference(found.turned, expected.turned.flat()) <= 1e-3);
        assert.ok(difference(corners(found.turned), expected.corners.flat(2)) <= 1e-3);
      }
    });
  }
}

function sameMasks(pieces, expected) {
  assert.equal(pieces.length, expected.length);
  pieces.forEach(({ bits, ...place }, i) => {
    const { bits: packed, ...wanted } = expected[i];
    assert.deepEqual(place, wanted);
    const right = Buffer.from(packed, "base64");
    const bitOf = (at) => (right[at >> 3] >> (7 - (at & 7))) & 1;
    const wrong = bits.reduce((count, bit, at) => count + (bit !== bitOf(at)), 0);
    assert.ok(wrong <= 1 && wrong <= bits.length / 200, `${wrong} of ${bits.length} pixels`);
  });
}

test("masks of a large picture are smaller than it, and lie in the same place", () => {
  const { data, dims } = tensor(Array.from({ length: 256 }, (_, i) => (i % 16 < 8 ? -1 : 1)), [1, 16, 16]);
  const transform = { picture: [640, 640], input: [64, 64], resized: [64, 64], top: 0, left: 0 };
  const half = decodeMasks(Float32Array.of(1), { data, dims }, Float32Array.of(100, 200, 600, 400), transform, 320);
  const [{ top, left, height, width, bits }] = half.pieces;
  assert.deepEqual([half.scale, top, left, height, width], [0.5, 100, 50, 100, 250]);
  assert.deepEqual([0, 109, 110, 249].map((x) => bits[x]), [0, 0, 1, 1]);
});

test("nan in prototypes is said", () => {
  const { transform, raw, protos } = golden("tasks").find(({ task }) => task === "segment");
  const answer = [tensor(raw, [raw.length, raw[0].length]), tensor(protos, [protos.length, 16, 16])];
  answer[1].data.fill(NaN);
  const meaning = new Postprocess({ names, task: "segment" }, false);
  assert.throws(() => meaning.decode(answer, transform, { conf: 0.25, iou: 0.7, most: 9 }), /nan or infinity in .* masks/);
});
