"""The pictures of a comparison's page, where their names are odd."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from yolo_distill.comparison import pictures


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
