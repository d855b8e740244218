"""The runtime without torch and ultralytics: everything works where importing them raises."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from made_detector import dense, write_detector, write_video

HEAVY = ("torch", "torchvision", "ultralytics", "onnx", "pydantic", "yolo_distill.engine", "yolo_distill.losses")
BLOCKED = f"import sys\nfor name in {HEAVY!r}:\n    sys.modules[name] = None\n"


def python(code, *arguments):
    command = [sys.executable, "-c", BLOCKED + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_block_holds():
    assert "ModuleNotFoundError" in python("import torch").stderr


@pytest.fixture
def work(tmp_path):
    write_detector(tmp_path / "best.onnx", dense((32, 32, 16, 16, 0.9, 0, 0)))
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((64, 64, 3), np.uint8))
    write_video(tmp_path / "a.mp4")
    return tmp_path


def test_detector(work):
    code = (
        "import json, numpy\nfrom yolo_distill import Detector\n"
        "print(json.dumps(Detector(sys.argv[1])(numpy.zeros((64, 64, 3), numpy.uint8)).to_dicts()))"
    )
    run = python(code, work / "best.onnx")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)[0]["xyxy"] == [24, 24, 40, 40]


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["predict", "source=a.jpg"], "runs/predict/a.jpg"),
        (["predict", "source=a.mp4", "vid_stride=4"], "runs/predict/a.mp4"),
        (["webcam", "source=a.mp4", "show=false", "save=out.mp4", "realtime=false"], "out.mp4"),
        (["predict", "--help"], None),
        (["webcam", "--help"], None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_commands(work, words, made):
    words = words if made is None else [*words, "model=best.onnx"]
    run = python("from yolo_distill.cli import main\nsys.exit(main(sys.argv[1:]))", *words)
    assert run.returncode == 0, run.stderr
    assert made is None or (work / made).stat().st_size > 0


def test_what_the_room_may_import():
    """numpy, onnxruntime, cv2, the standard library, errors, files and session options."""
    code = (
        "import importlib, pkgutil, yolo_distill.runtime as room\n"
        "for one in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'{room.__name__}.{one.name}')\n"
        "print(*sorted(name for name, module in sys.modules.items() if module and name.startswith('yolo_distill')))\n"
    )
    run = python(code)
    assert run.returncode == 0, run.stderr
    names = {name for name in run.stdout.split() if not name.startswith("yolo_distill.runtime")}
    assert names == {
        f"yolo_distill{one}" for one in ("", ".errors", ".files", ".session_options", ".sources", ".version")
    }
