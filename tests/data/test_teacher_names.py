"""What `teacher=` names, where names are odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.teachers.loading import named, with_absolute_paths


def test_a_folder_with_a_comma_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data, v2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("a.pt", "b.pt"):
        Path(name).touch()
    whole = with_absolute_paths("a.pt")
    assert [one.file for one in named(whole)] == [whole] == [str(folder / "a.pt")]
    for several in ("a.pt,b.pt", "torchvision:ssd300_vgg16:a.pt"):
        with pytest.raises(RequestError, match=r"lies in a folder with a comma in its name .*; move it"):
            with_absolute_paths(several)
