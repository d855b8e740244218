"""`yolo-distill val` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.cli import main


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Words for an untrained model and a data set of three pictures."""
    folder = tmp_path_factory.mktemp("val")
    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", nc=2, verbose=False)
    model.names = {0: "a", 1: "b"}
    torch.save({"model": model, "train_args": {"imgsz": 64, "task": "detect"}}, folder / "best.pt")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
        (folder / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n1 0.2 0.2 0.1 0.1\n")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [a, b]\n")
    return f"model={folder / 'best.pt'}", f"data={folder / 'data.yaml'}"


def test_val_prints_a_table_and_writes_json(
    given: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["val", *given, "out=figures.json", "nms=false", "conf=0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "pictures", "boxes", "P", "R", "mAP50", "mAP50-95"]
    assert lines[1].split()[:3] == ["all", "3", "6"]
    assert [line.split()[0] for line in lines[2:4]] == ["a", "b"]
    assert "ms a picture on cpu" in "\n".join(lines)
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]
    figures = json.loads(Path("figures.json").read_text())
    assert figures["nms"] is False
    assert figures["imgsz"] == 64
    assert [row["boxes"] for row in figures["classes"]] == [3, 3]


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
