import assert from "node:assert/strict";
import test from "node:test";

import { parseLiteral, repr } from "../../export/web/js/literal.js";
import { readMetadata, RequestError } from "../../export/web/js/metadata.js";
import { Model } from "../../export/web/js/model.js";
import { golden } from "./golden.mjs";

function outcome(run) {
  try {
    return { gives: run() };
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    return { refuses: error.message };
  }
}

for (const { notes, ...expected } of golden("metadata")) {
  test(`notes: ${expected.refuses ?? JSON.stringify(notes)}`, () => {
    const said = outcome(() => {
      const read = readMetadata(new Map(Object.entries(notes)), "best.onnx");
      const { names, stride, imgsz, task, kptShape, end2end, most } = read;
      const input = [read.inputLayout, read.inputColour, read.inputRange];
      return { names, stride, imgsz, task, kpt_shape: kptShape, end2end, most, input };
    });
    assert.deepEqual(said, expected);
  });
}

golden("model").forEach(({ file, ...expected }, number) => {
  test(`file ${number}: ${expected.refuses ?? JSON.stringify(expected.gives)}`, () => {
    const bytes = new Uint8Array(Buffer.from(file, "base64"));
    const said = outcome(() => {
      const { names, imgsz, end2end, form } = new Model(bytes, "best.onnx");
      const types = { float32: "tensor(float)", float16: "tensor(float16)", uint8: "tensor(uint8)" };
      return { names, imgsz, end2end, batch: form.batch, input: [form.name, types[form.dtype]] };
    });
    assert.deepEqual(said, expected);
  });
});

test("an answer of another shape is said", () => {
  const { file } = golden("model").find(({ gives }) => gives);
  const model = new Model(new Uint8Array(Buffer.from(file, "base64")), "best.onnx");
  const { transform } = model.preprocess({ data: new Uint8ClampedArray(16), width: 2, height: 2 });
  assert.throws(
    () => model.postprocess({ output0: { data: new Float32Array(27), dims: [1, 9, 3] } }, transform, { conf: 0.25, iou: 0.7 }),
    /best\.onnx: the model answered \(1, 9, 3\); expected \(B, 7, A\) for 3 classes, or \(B, N, 6\)/,
  );
});

test("values as Python writes them come back as Python shows them", () => {
  for (const text of ["{'a': [1, -2.5, None], 'b': (True, False)}", "(1,)", "[]", "{}", "()", "1e-07", "'it\\'s \"'"]) {
    assert.equal(repr(parseLiteral(text)), text);
  }
  for (const text of ["8.4.190", "2026-01-02", "[1, 2", "a", "1 2", "007", "print(1)", ""]) {
    assert.equal(parseLiteral(text), text);
  }
});
