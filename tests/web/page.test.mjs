import assert from "node:assert/strict";
import test from "node:test";

import { Detector } from "../../export/web/js/detector.js";
import { colourOf } from "../../export/web/js/drawing.js";
import { Meter } from "../../export/web/js/meter.js";
import { Newest } from "../../export/web/js/newest.js";
import { backendWords, cameraTrouble, foundWords } from "../../export/web/js/words.js";
import { golden } from "./golden.mjs";

test("classes have the colours that Python gives them", () => {
  for (const { class_id, colour } of golden("colour")) {
    assert.ok(colourOf(class_id).every((level, i) => Math.abs(level - colour[i]) <= 1), `class ${class_id}`);
  }
});

test("one frame in flight, and the newest wins", async () => {
  const seen = [];
  const done = [];
  const newest = new Newest((take) => new Promise((resolve) => done.push(() => resolve(seen.push(take())))));
  for (const frame of [1, 2, 3]) newest.offer(() => frame);
  assert.equal(done.length, 1);
  done[0]();
  await new Promise(setImmediate);
  assert.equal(done.length, 2);
  done[1]();
  await new Promise(setImmediate);
  assert.deepEqual(seen, [1, 3]);
  assert.equal(newest.dropped, 1);
  assert.equal(newest.busy, false);
});

test("frames a second and latency of the last two seconds", () => {
  const meter = new Meter();
  assert.deepEqual([meter.fps, meter.latency], [null, null]);
  for (let now = 0; now <= 10_000; now += 100) meter.add(now - (now < 8000 ? 500 : 40), now);
  assert.equal(meter.fps, 10);
  assert.equal(meter.latency, 40);
});

test("a worker that breaks leaves nobody waiting", async () => {
  const worker = { postMessage() {} };
  const detector = new Detector(worker);
  const waiting = [detector.open({ name: "best.onnx" }), detector.again({})];
  worker.onerror({ message: "it broke" });
  for (const one of [...waiting, detector.find({ close() {} }, {})]) await assert.rejects(one, /it broke/);
});

test("words", () => {
  assert.equal(foundWords([1, 0, 1], ["disc", "square"]), "2 square, 1 disc");
  assert.equal(foundWords([], []), "nothing");
  assert.equal(backendWords({ backend: "wasm", threads: 1 }), "WASM, 1 thread");
  assert.equal(backendWords({ backend: "webgpu", threads: 0 }), "WebGPU");
  assert.match(cameraTrouble(null, false), /https/);
  assert.match(cameraTrouble({ name: "NotAllowedError" }, true), /refused/);
  assert.match(cameraTrouble({ name: "Odd", message: "why" }, true), /why/);
});
