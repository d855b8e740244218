"""The files in `export/`."""

from __future__ import annotations

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.exporting import targets as module
from yolo_distill.exporting.targets import load_target
from yolo_distill.paths import export_dir


def test_every_target_that_is_shipped_can_be_made():
    targets = [load_target(file.stem) for file in sorted(export_dir().glob("*.yaml"))]
    assert [(one.name, one.precisions[0], one.delegates) for one in targets] == [
        ("browser", "fp32", False), ("cpu", "fp32", False), ("phone", "fp32", True),
    ]  # fmt: skip
    assert all(one.audience and one.advice for one in targets)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[fp32,", "[fp8,", "mine.yaml: precisions.0: input should be 'fp32', 'fp16' or 'int8', received 'fp8'"),
        ("input: floats", "input: float", "input: input should be 'floats' or .*; did you mean 'floats'"),
        ("format: onnx", "format: tflite", "format: input should be 'onnx', received 'tflite'"),
        ("opset: ", "opset: v", "opset: input should be a valid integer.*, received 'v"),
        ("delegates: false", "delegate: false", "it lacks delegates"),
        ("ort: false", "ort: false\nopsets: 3", "opsets is unknown; did you mean 'opset'"),
        ("opset: ", "opset:\n- [", "mine.yaml is not YAML"),
    ],
)
def test_targets_that_cannot_be_made(tmp_path, monkeypatch, old, new, says):
    text = (export_dir() / "cpu.yaml").read_text()
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new))
    monkeypatch.setattr(module, "export_dir", lambda: tmp_path)
    with pytest.raises(RequestError, match=says):
        load_target("mine")


def test_a_target_that_is_not_there():
    with pytest.raises(RequestError, match="did you mean 'cpu'"):
        load_target("cpus")
