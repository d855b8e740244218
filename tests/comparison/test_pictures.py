"""The pictures of a comparison's page, also those with odd names and channels."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.comparison import pictures
from yolo_distill.models.checkpoint import load_detector


@pytest.mark.parametrize(("channels", "looked_at"), [(1, 4), (4, 0)])
def test_pictures_are_read_as_the_model_was_trained(
    channels: int, looked_at: int, tiny_data: Path, tiny_student: str, tmp_path: Path
) -> None:
    """Colour is read as grey for a model of grey pictures; for one of four channels there is nothing to see in it."""
    model = DetectionModel(tiny_student, ch=channels, nc=2, verbose=False)
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, tmp_path / "other.pt")
    files = [str(file) for file in sorted((tiny_data.parent / "images" / "val").iterdir())]
    found = pictures.detect(load_detector(tmp_path / "other.pt"), files, imgsz=64, device="cpu")
    assert len(files) == 4
    assert len(found) == looked_at


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")
def test_a_name_that_is_no_text(
    tiny_data: Path, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(b"Stra\xdfe")
    for kind, ending in (("images", ".png"), ("labels", ".txt")):
        (tmp_path / kind).mkdir()
        shutil.copy(tiny_data.parent / kind / "val" / f"0{ending}", tmp_path / kind / f"{odd}{ending}")
    data = tmp_path / "data.yaml"
    data.write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: [disc, square]\n")
    monkeypatch.setattr(pictures, "choose", sorted)
    weights = {"plain": untrained, "distilled": untrained}
    (shown,) = pictures.most_different(weights, str(data), "val", imgsz=64, device="cpu", trust=False)
    assert shown.name == r"Stra\xdfe.png"
    assert list(shown.panes) == ["labels", "plain", "distilled"]
    shown.name.encode()  # as the page is written
