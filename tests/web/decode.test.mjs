import assert from "node:assert/strict";
import test from "node:test";

import { decodeDense, decodeEnd2end } from "../../export/web/js/decode.js";
import { atMost, nms } from "../../export/web/js/nms.js";
import { difference, golden } from "./golden.mjs";

for (const { layout, raw, runs } of golden("decode")) {
  const answer = Float32Array.from(raw.flat());
  for (const { settings, ...expected } of runs) {
    const { max_det: most, ...rest } = settings;
    test(`a ${layout} answer of ${raw.length} rows with ${JSON.stringify(settings)}`, () => {
      const wanted = { most, ...rest };
      const found = layout === "dense" ? decodeDense(answer, { nc: raw.length - 4 }, wanted) : decodeEnd2end(answer, {}, wanted);
      assert.deepEqual(Array.from(found.classId), expected.class_id);
      assert.ok(difference(found.xyxy, expected.xyxy.flat()) <= 1e-4);
      assert.ok(difference(found.scores, expected.scores) <= 1e-4);
    });
  }
}

test("the same boxes stay, in the same order", () => {
  for (const { xyxy, scores, class_id, runs } of golden("nms")) {
    const given = [Float32Array.from(xyxy.flat()), Float32Array.from(scores), Int32Array.from(class_id)];
    for (const { settings, kept } of runs) assert.deepEqual(nms(...given, settings), kept, JSON.stringify(settings));
  }
});

test("overlaps are compared as in float64", () => {
  for (const number of [0, 0.1, 0.45, 0.5, 0.6, 0.7, 1]) {
    const least = atMost(number);
    assert.ok(least <= number && number - least < 1e-7);
    assert.equal(Math.fround(least), least);
  }
});

test("nan and infinity are said", () => {
  for (const bad of [NaN, Infinity]) {
    for (const place of [0, 20, 25]) {
      const raw = new Float32Array(30).fill(0.1); // one class: 4 rows of boxes and 2 of scores, 5 anchor points
      raw[place] = bad;
      assert.throws(() => decodeDense(raw, { nc: 2 }, { conf: 0.5, iou: 0.7, most: 300, classes: null }), /nan or infinity/);
      assert.throws(() => decodeEnd2end(raw, {}, { conf: 0.5, most: 300, classes: null }), /nan or infinity/);
    }
  }
});
