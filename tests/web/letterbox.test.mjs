import assert from "node:assert/strict";
import test from "node:test";

import { fromHalf, toHalf } from "../../export/web/js/half.js";
import { InputForm } from "../../export/web/js/input-form.js";
import { fit, toPicture } from "../../export/web/js/letterbox.js";
import { difference, golden, picture } from "./golden.mjs";

for (const { transform, canvas } of golden("letterbox")) {
  test(`every byte of ${transform.picture} in ${transform.input} is OpenCV's`, () => {
    const form = new InputForm({ name: "images", dtype: "uint8", blueFirst: false, batch: 1, imgsz: null });
    const { data } = form.fill(picture(...transform.picture), transform.input);
    assert.deepEqual(Buffer.from(data), Buffer.from(canvas, "base64"));
  });
}

test("pictures lie where Python lays them, and boxes come back", () => {
  for (const { transform, boxes, back } of golden("transform")) {
    assert.deepEqual(fit(transform.picture, transform.input), transform);
    const given = Float32Array.from(boxes.flat());
    assert.ok(difference(toPicture(given, transform), back.flat()) <= 1e-4, `${transform.picture}`);
  }
});

test("the input of every form", () => {
  for (const { dtype, blue_first, dims, data } of golden("tensor")) {
    const form = new InputForm({ name: "images", dtype, blueFirst: blue_first, batch: 1, imgsz: null });
    const filled = form.fill(picture(5, 7), [8, 12]);
    assert.deepEqual(filled.dims, dims);
    assert.deepEqual(filled.data, filled.data.constructor.from(data), dtype);
  }
});

test("a file that takes two at a time gets zeros beside the picture", () => {
  const form = new InputForm({ name: "images", dtype: "float32", blueFirst: false, batch: 2, imgsz: null });
  const { data, dims } = form.fill(picture(8, 8), [8, 8]);
  assert.deepEqual(dims, [2, 3, 8, 8]);
  assert.ok(data.subarray(0, 192).every((value) => value >= 0 && value <= 1));
  assert.ok(data.subarray(192).every((value) => value === 0));
});

test("a form is used again for pictures of other sizes", () => {
  const form = new InputForm({ name: "images", dtype: "uint8", blueFirst: false, batch: 1, imgsz: null });
  for (const { transform, canvas } of [...golden("letterbox"), ...golden("letterbox").reverse()]) {
    const { data } = form.fill(picture(...transform.picture), transform.input);
    assert.deepEqual(Buffer.from(data), Buffer.from(canvas, "base64"));
  }
});

test("numbers of 16 bits go there and back", () => {
  for (let bits = 0; bits < 0x7c00; bits++) assert.equal(toHalf(fromHalf(bits)), bits);
  assert.equal(fromHalf(0xc000), -2);
  assert.equal(fromHalf(0xfc00), -Infinity);
  assert.ok(Number.isNaN(fromHalf(0x7e00)));
});
