"""Who runs what."""

from __future__ import annotations

import importlib.util

import pytest
from made_rows import made_model

from yolo_distill.benchmark import backends
from yolo_distill.benchmark.backends import choose_rows
from yolo_distill.errors import RequestError


@pytest.fixture
def installed(monkeypatch) -> set[str]:
    """Return the modules that count as installed; a test may take some out."""
    there = {"onnxruntime", "ultralytics", "torch", "openvino", "ncnn"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: object() if name in there else None)
    assert backends.importlib.util is importlib.util
    return there


def names(rows) -> list[tuple[str, str, bool]]:
    return [(row.model.label, row.backend, row.optional) for row in rows]


def test_auto_takes_whatever_is_there(installed):
    models = [made_model("a.onnx"), made_model("b.pt", "pt"), made_model("c_ncnn_model", "ncnn")]
    rows, left_out = choose_rows(models, "auto", "cpu")
    assert names(rows) == [
        ("a.onnx", "ours", False),
        ("a.onnx", "host", True),
        ("a.onnx", "openvino", True),
        ("b.pt", "host", False),
        ("c_ncnn_model", "ncnn", False),
    ]
    assert left_out == []


@pytest.mark.parametrize(
    ("without", "device", "runs", "says"),
    [
        (
            {"ultralytics", "torch", "ncnn"},
            "cpu",
            ["ours", "openvino"],
            "ultralytics is not installed (pip install 'yolo-distill[train]')",
        ),
        (set(), "0", ["ours", "host"], "it runs on the CPU here, and device=0 was asked for"),
    ],
)
def test_auto_says_what_could_be_there_and_is_not(installed, without, device, runs, says):
    installed -= without
    rows, (sentence,) = choose_rows([made_model("a.onnx")], "auto", device)
    assert [row.backend for row in rows] == runs
    assert sentence.endswith(f" is not in the table: {says}")


def test_those_asked_for_by_name_keep_their_order_and_are_not_optional(installed):
    rows, _ = choose_rows([made_model("a.onnx")], "openvino-fp32, ours,ours", "cpu")
    assert names(rows) == [("a.onnx", "openvino-fp32", False), ("a.onnx", "ours", False)]


@pytest.mark.parametrize(
    ("wanted", "without", "models", "says"),
    [
        ("openvinoo", (), ["a.onnx"], "backends=openvinoo: not one of auto, ours, .*; did you mean 'openvino'"),
        (",", (), ["a.onnx"], "backends=,: not one of"),
        ("ncnn", (), ["a.onnx"], "backends=ncnn: runs none of these models"),
        ("ours,openvino", ("openvino",), ["a.onnx"], r"backends=openvino: openvino is not installed \(pip install op"),
        ("ours", (), ["a.onnx", "b.pt"], "model=b.pt: backends=ours cannot run it; host can"),
        ("auto", ("ncnn",), ["a.onnx", "c_ncnn_model"], "model=c_ncnn_model: ncnn is not installed"),
        ("auto", ("ultralytics",), ["b.pt"], r"model=b.pt needs 'ultralytics'.*yolo-distill\[train\]"),
    ],
)
def test_bad_wishes(installed, wanted, without, models, says):
    installed -= set(without)
    kinds = {".onnx": "onnx", ".pt": "pt", "_ncnn_model": "ncnn"}
    made = [made_model(name, next(kind for end, kind in kinds.items() if name.endswith(end))) for name in models]
    with pytest.raises(RequestError, match=says):
        choose_rows(made, wanted, "cpu")
