"""`yolo-distill export` from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_yolo import write_architecture

from yolo_distill.cli import main


@pytest.fixture
def checkpoint(make_teacher: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint without a one-to-one branch, in a folder of its own."""
    folder = tmp_path_factory.mktemp("weights")
    plain = write_architecture(folder / "plain.yaml", end2end=False)
    return Path(shutil.copy(make_teacher(str(plain), {0: "disc", 1: "square"}), folder / "best.pt"))


def test_export_prints_what_was_proved(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"model={checkpoint}"]) == 0
    out = capsys.readouterr().out
    assert f"{checkpoint.with_suffix('.onnx')}: " in out
    assert "64x64 px" in out
    assert "proved on 2 pictures" in out
    assert json.loads(checkpoint.with_suffix(".json").read_text())["target"] == "cpu"


def test_a_rectangle_with_the_name_of_ones_choice(checkpoint: Path, tmp_path: Path) -> None:
    assert main(["export", f"model={checkpoint}", "imgsz=64,96", f"out={tmp_path / 'mine.onnx'}"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.json", "mine.md", "mine.onnx"]


def test_as_users_of_yolo_type_it(checkpoint: Path, tmp_path: Path) -> None:
    assert main(["export", str(checkpoint), "--half=False", "--imgsz", "64", "--out", str(tmp_path / "mine.onnx")]) == 0
    assert main(["export", f"weights={checkpoint}", "half=True", f"out={tmp_path / 'half.onnx'}"]) == 0
    assert json.loads((tmp_path / "half.json").read_text())["precision"] == "fp16"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=nowhere/best.pt"], "no such file"),
        (["imgsz=100"], "multiples of 32"),
        (["nms=true"], "nms=true: not one of none, false"),
        (["half=True", "int8=True"], "int8=True: means precision=int8, and precision=fp16 is given; leave one out"),
        (["other.pt"], "'other.pt' is one too many: model="),
        (["nms=false"], "has no one-to-one branch"),
        (["target=gpu"], "target=gpu: unknown"),
        (["data=nowhere.yaml"], "no such file"),
        (["out=nowhere/best.onnx"], "there is no folder nowhere"),
        (["format=openvino", "opset=13"], "opset=13: is of format=onnx only"),
    ],
)
def test_bad_requests(words: list[str], says: str, checkpoint: Path, refused: Callable[..., str]) -> None:
    assert says in refused("export", f"model={checkpoint}", *words)
