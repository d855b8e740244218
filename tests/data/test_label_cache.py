"""What was read of labels is found again at the next start, as it was, and read anew where it has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ultralytics.data import YOLODataset

from yolo_distill.data import label_cache
from yolo_distill.data.label_cache import keep_labels_here


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
