"""`yolo-distill shrink`: a smaller checkpoint without training, which any Ultralytics opens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_detector import live_detector, save
from tiny_yolo import write_architecture

import yolo_distill
from yolo_distill.cli import main
from yolo_distill.exporting.training import training_of
from yolo_distill.models.checkpoint import load_detector


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
    assert again.file == Path("small-w1.0.pt")
    assert repr(again).startswith(f"ShrinkResult(file='small-w1.0.pt', map={again.map:.1f}, ")
    # What was measured is the file, which states no training.
    assert again.figures["model"] == "small-w1.0.pt"
    assert yolo_distill.val("small-w1.0.pt", tiny_data, device="cpu").map == again.map
    states = training_of(load_detector("small-w1.0.pt"))
    assert states.pop("data")
    assert states == {"architecture": "tiny-wide-w1.5-relu-w1.0.yaml", "settings": {"imgsz": 64}}


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
        (["student=deeper.yaml"], "% of its parameters correspond to the layers of teacher="),
    ],
)
def test_bad_requests(
    words: list[str], says: str, tiny_data: Path, tiny_teacher: str, refused: Callable[..., str]
) -> None:
    write_architecture(Path("wider.yaml"), width=4)
    rows = write_architecture(Path("deeper.yaml")).read_text().replace("[2, 3, 4]", "[2, 3, 5]")
    last = "- [-1, 1, Conv, [32"
    Path("deeper.yaml").write_text(rows.replace(last, f"- [-1, 1, Conv, [16, 1, 1]]\n{last}"))
    before = Path(tiny_teacher).read_bytes()
    out = [] if any(word.startswith("out=") for word in words) else ["out=small.pt"]
    asked = [word.format(teacher=tiny_teacher) for word in [*words, *out]]
    assert says in refused("shrink", tiny_teacher, str(tiny_data), "device=cpu", *asked)
    assert not Path("small.pt").exists()
    assert Path(tiny_teacher).read_bytes() == before


def test_data_that_the_teacher_does_not_know(
    own_data: Path, tiny_teacher: str, refused: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["shrink", tiny_teacher, str(own_data), "device=cpu", "width=1"]
    plan = own_data.read_text()
    own_data.write_text(plan.replace("disc", "cat").replace("square", "dog"))
    said = refused(*words)
    assert said == (
        "teacher and data have no class in common: the data has cat, dog, the teacher disc, square; use a teacher "
        "trained on these classes"
    )
    own_data.write_text(plan.replace("disc", "cat"))
    assert main([*words, "out=small.pt"]) == 0
    assert "the teacher does not know cat: these are not found before training" in caplog.text
    segments = write_architecture(Path("tiny-seg.yaml"), width=2, task="segment")
    save(live_detector(str(segments), ["cat", "square"], task="segment"), Path("seg.pt"), 64)
    assert "the model is for segment, which learns from outlines" in refused("shrink", "seg.pt", *words[2:])
