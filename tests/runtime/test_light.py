"""The runtime without torch and ultralytics: everything works where importing them raises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_detector import dense, write_detector, write_video

HEAVY = ("torch", "torchvision", "ultralytics", "onnx", "pydantic", "yolo_distill.engine", "yolo_distill.losses")
OPTIONAL = ("PIL", "pandas", "supervision")
BLOCKED = f"import sys\nfor name in {HEAVY + OPTIONAL!r}:\n    sys.modules[name] = None\n"


def python(code, *arguments, env=None):
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["predict", "source=a.mp4", "vid_stride=4", "jsonl=a.jsonl"], "runs/predict/a.mp4"),
        (["webcam", "source=a.mp4", "show=false", "save=out.mp4", "realtime=false", "record=a.jsonl"], "out.mp4"),
    ],
    ids=["predict", "webcam"],
)
def test_commands(words, made, tmp_path):
    write_detector(Path("best.onnx"), dense((32, 32, 16, 16, 0.9, 0, 0)))
    write_video(Path("a.mp4"))
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    python("from yolo_distill.cli import main\nsys.exit(main(sys.argv[1:]))", *words, "model=best.onnx", env=env)
    assert not list(tmp_path.rglob("Microsoft"))  # where onnxruntime keeps what it reports
    assert Path(made).stat().st_size > 0
    (found,) = json.loads(Path("a.jsonl").read_text("utf-8").splitlines()[0])["detections"]
    assert found["name"] == "disc"
