"""Who runs what."""

from __future__ import annotations

import importlib.util

import pytest
from made_rows import made_model

from yolo_distill.benchmarking.backends import choose_rows
from yolo_distill.errors import RequestError

KINDS = {"a.onnx": "onnx", "b.pt": "pt", "c_ncnn_model": "ncnn"}
ALL = {"onnxruntime", "ultralytics", "torch", "openvino", "ncnn"}


@pytest.fixture
def choose(monkeypatch):
    """Return a function that chooses who runs models of some names where all is installed but for some modules."""

    def run(names: list[str], wanted: str = "auto", device: str = "cpu", without: tuple[str, ...] = ()):
        there = ALL - {*without}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: name if name in there else None)
        rows, left_out = choose_rows([made_model(name, KINDS[name]) for name in names], wanted, device)
        return [(row.model.label, row.backend, row.optional) for row in rows], left_out

    return run


@pytest.mark.parametrize(
    ("settings", "rows", "left_out"),
    [
        (
            {"names": [*KINDS]},
            [
                ("a.onnx", "ours", False),
                ("a.onnx", "host", True),
                ("a.onnx", "openvino", True),
                ("b.pt", "host", False),
                ("c_ncnn_model", "ncnn", False),
            ],
            [],
        ),
        (
            {"names": ["a.onnx"], "without": ("ultralytics", "torch", "ncnn")},
            [("a.onnx", "ours", False), ("a.onnx", "openvino", True)],
            ["ultralytics is not in the table: ultralytics is not installed (pip install 'yolo-distill[train]')"],
        ),
        (
            {"names": ["a.onnx"], "device": "0"},
            [("a.onnx", "ours", False), ("a.onnx", "host", True)],
            ["openvino is not in the table: it runs on the CPU here, and device=0 was asked for"],
        ),
        (  # those asked for by name keep their order and are not optional
            {"names": ["a.onnx"], "wanted": "openvino-fp32, ours,ours"},
            [("a.onnx", "openvino-fp32", False), ("a.onnx", "ours", False)],
            [],
        ),
    ],
)
def test_who_runs_what(choose, settings, rows, left_out):
    assert choose(**settings) == (rows, left_out)


@pytest.mark.parametrize(
    ("wanted", "without", "names", "says"),
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
def test_bad_wishes(choose, wanted, without, names, says):
    with pytest.raises(RequestError, match=says):
        choose(names, wanted, without=without)
