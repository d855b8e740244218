"""`yolo-distill shrink`: a smaller checkpoint without training, which any Ultralytics opens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_yolo import write_architecture

import yolo_distill
from yolo_distill.cli import main


def test_a_smaller_checkpoint(tiny_data: Path, tiny_teacher: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [tiny_teacher, str(tiny_data), "device=cpu", "out=small.pt"]
    assert main(["shrink", *words, "width=1.5", "act=relu"]) == 0
    (said,) = capsys.readouterr().out.splitlines()[-1:]
    assert said.startswith("small.pt: mAP50-95 ")
    assert " on val at 64 px; " in said
    code = (
        "import sys, json\nsys.modules['yolo_distill'] = None\nfrom ultralytics import YOLO\n"
        "y = YOLO('small.pt')\nm = y.model\n"
        "print(json.dumps([m.model[0].conv.out_channels, type(m.model[0].act).__name__, y.names, m.args['imgsz']]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [16, "ReLU", {"0": "disc", "1": "square"}, 64]
    # It is a student and a teacher like any other.
    again = yolo_distill.shrink("small.pt", tiny_data, width=1, device="cpu")
    assert again.file == Path("small-1.0.pt")
    assert repr(again).startswith(f"ShrinkResult(file='small-1.0.pt', map={again.map:.1f}, ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "width= is missing; give one smaller than the teacher's, e.g. width=0.19"),
        (["width=2"], "; give a smaller one"),
        (["width=0"], "width=0: must be above 0"),
        (["width=1", "out=small.onnx"], "out=small.onnx: a checkpoint ends in .pt"),
        (["act=gelu"], "act=gelu: not one of silu, relu, relu6, hardswish"),
        (["student=wider.yaml"], "parameters without its head, and teacher="),
        (["width=1", "student=yolo26f.pt"], "student=yolo26f.pt: an architecture is a .yaml file"),
        (["width=1", "out={teacher}"], "is teacher= itself; give another name"),
    ],
)
def test_bad_requests(
    words: list[str], says: str, tiny_data: Path, tiny_teacher: str, refused: Callable[..., str]
) -> None:
    write_architecture(Path("wider.yaml"), width=4)
    before = Path(tiny_teacher).read_bytes()
    out = [] if any(word.startswith("out=") for word in words) else ["out=small.pt"]
    asked = [word.format(teacher=tiny_teacher) for word in [*words, *out]]
    assert says in refused("shrink", tiny_teacher, str(tiny_data), "device=cpu", *asked)
    assert not Path("small.pt").exists()
    assert Path(tiny_teacher).read_bytes() == before
