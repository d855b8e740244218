"""`yolo-distill val` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from yolo_distill.cli import main


@pytest.fixture
def given(tiny_data: Path, tiny_teacher: str) -> tuple[str, str]:
    """Words for an untrained model and a data set of four pictures."""
    return f"model={tiny_teacher}", f"data={tiny_data}"


def test_val_prints_a_table_and_writes_json(given: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["val", *given, "out=figures.json", "nms=false", "conf=0.01", "device=cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "pictures", "boxes", "P", "R", "mAP50", "mAP50-95"]
    assert lines[1].split()[:3] == ["all", "4", "9"]
    assert [line.split()[0] for line in lines[2:4]] == ["disc", "square"]
    assert "ms a picture on cpu" in "\n".join(lines)
    assert [file.name for file in Path().iterdir()] == ["figures.json"]
    figures = json.loads(Path("figures.json").read_text())
    assert (figures["nms"], figures["imgsz"]) == (False, 64)
    assert [row["boxes"] for row in figures["classes"]] == [5, 4]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["split=vla"], "did you mean 'val'?"),
        (["imgsz=100"], "takes multiples of 32"),
        (["nms=maybe"], "not one of none, true, false"),
        (["out=nowhere/figures.json"], "there is no folder nowhere"),
        (["model=nowhere/best.onnx"], "no such file"),
        (["device=gpu7"], "the host refuses these settings"),
    ],
)
def test_bad_requests(words: list[str], says: str, given: tuple[str, str], refused: Callable[..., str]) -> None:
    assert says in refused("val", *given, *words)
