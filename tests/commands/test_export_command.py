"""`yolo-distill export` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_yolo import write_architecture
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.cli import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    tiny = write_architecture(path.with_name("tiny.yaml"), end2end=False)
    model = DetectionModel(str(tiny), nc=2, verbose=False)
    torch.save({"model": model, "train_args": {"imgsz": 64, "task": "detect"}}, path)
    return path


def test_export_prints_what_was_proved(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"model={checkpoint}"]) == 0
    out = capsys.readouterr().out
    assert f"{checkpoint.with_suffix('.onnx')}: " in out
    assert "64x64 px" in out
    assert "proved on 2 pictures" in out
    assert json.loads(checkpoint.with_suffix(".json").read_text())["target"] == "cpu"


def test_a_rectangle_with_the_name_of_ones_choice(checkpoint: Path, tmp_path: Path) -> None:
    assert main(["export", f"model={checkpoint}", "imgsz=64,96", f"out={tmp_path / 'mine.onnx'}"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.json", "mine.onnx"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=nowhere/best.pt"], "no such file"),
        (["imgsz=100"], "multiples of 32"),
        (["nms=true"], "nms=true: not one of none, false"),
        (["nms=false"], "has no one-to-one branch"),
        (["target=gpu"], "target=gpu: unknown"),
        (["data=nowhere.yaml"], "no such file"),
        (["out=nowhere/best.onnx"], "there is no folder nowhere"),
        (["format=openvino", "opset=13"], "opset=13: is of format=onnx only"),
    ],
)
def test_bad_requests(words: list[str], says: str, checkpoint: Path, refused: Callable[..., str]) -> None:
    assert says in refused("export", f"model={checkpoint}", *words)
