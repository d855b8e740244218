"""What was read of labels is found again at the next start, as it was, and read anew where it has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics.data import YOLODataset
from ultralytics.utils import checks

from yolo_distill.data import label_cache
from yolo_distill.data.label_cache import keep_labels_here
from yolo_distill.data.samples import read_picture
from yolo_distill.temporary import temporary_folder


@pytest.fixture
def labels(tiny_data, tmp_path, monkeypatch):
    """Return a function that reads the labels of a folder as the host does; one is an outline, one empty, one gone."""
    monkeypatch.setattr(label_cache, "FOLDER", tmp_path / "kept")
    keep_labels_here()
    shutil.copytree(tiny_data.parent, "data", ignore=shutil.ignore_patterns("*.cache"))
    folder = Path("data/labels/train")
    (folder / "0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.4\n1 0.2 0.2 0.6 0.2 0.6 0.6 0.2 0.6\n")
    (folder / "1.txt").write_text("")
    (folder / "2.txt").unlink()
    for number in range(3, 8):
        (folder / f"{number}.txt").write_text("")

    def read():
        dataset = YOLODataset(img_path="data/images/train", data={"names": {0: "disc", 1: "square"}}, augment=False)
        return dataset.labels

    return read


def scans(monkeypatch):
    """Return a list that grows by one whenever the host reads labels."""
    seen, scan = [], YOLODataset.cache_labels
    monkeypatch.setattr(YOLODataset, "cache_labels", lambda *given: seen.append(1) or scan(*given))
    return seen


def test_the_second_start_finds_what_the_first_one_read(labels, monkeypatch):
    seen = scans(monkeypatch)
    first, second = labels(), labels()
    assert len(seen) == 1
    assert not list(Path("data").rglob("*.cache"))  # the data set's folder is left alone
    assert len(first[0]["segments"]) == 2
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in ("cls", "bboxes", "segments"):
            np.testing.assert_equal(other[key], one[key])
            assert [part.dtype for part in other[key]] == [part.dtype for part in one[key]]
        rest = one.keys() - {"cls", "bboxes", "segments"}
        assert {key: other[key] for key in rest} == {key: one[key] for key in rest}


def test_what_has_changed_or_is_damaged_is_read_anew(labels, monkeypatch):
    seen = scans(monkeypatch)
    labels()
    Path("data/labels/train/1.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    assert labels()[1]["cls"].tolist() == [[1.0]]
    (kept,) = label_cache.FOLDER.glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:200])
    assert labels()[1]["cls"].tolist() == [[1.0]]
    assert len(seen) == 3


def test_a_folder_that_cannot_be_written_is_said(labels, monkeypatch, caplog):
    Path("file").touch()
    monkeypatch.setattr(label_cache, "FOLDER", Path("file/kept"))
    assert len(labels()) == 8
    assert "the labels are read anew at the next start" in caplog.text


def test_pictures_stay_as_they_are_and_nothing_is_installed(labels, monkeypatch):
    """A JPEG with something behind its end, one that is cut off, and two files that are no pictures."""
    pip = []
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    monkeypatch.setattr(checks, "ONLINE", True, raising=False)
    monkeypatch.setattr(checks.subprocess, "check_output", lambda words, **_: pip.append(words) or "")
    folder = Path("data/images/train")
    coded = cv2.imencode(".jpg", cv2.imread(str(folder / "3.png")))[1].tobytes()
    contents = {"3.jpg": coded + b"\0\0", "4.jpg": coded[: len(coded) // 2], "5.png": b"", "6.heic": b"nothing"}
    for name, content in contents.items():
        (folder / f"{name[0]}.png").unlink()
        (folder / name).write_bytes(content)
    assert [Path(label["im_file"]).name for label in labels()] == ["0.png", "1.png", "2.png", "3.jpg", "7.png"]
    assert {name: (folder / name).read_bytes() for name in contents} == contents
    assert read_picture(str(folder / "6.heic"), cv2.IMREAD_COLOR) is None
    assert (pip, checks.AUTOINSTALL) == ([], True)


def test_of_a_temporary_folder_nothing_is_kept(labels, monkeypatch):
    with temporary_folder() as folder:
        shutil.copytree("data", folder / "data")
        monkeypatch.chdir(folder)
        labels()
    assert not label_cache.FOLDER.exists()
