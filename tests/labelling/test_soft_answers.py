"""Parquet: what is written is read, whatever there is of it, and found by the name of a picture."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.labelling.asking import Found
from yolo_distill.labelling.shards import item_name, part_name
from yolo_distill.labelling.soft import FOLDER, KEPT, SIMILAR, UNREAD, Row, SoftAnswers, read_part, rows_of, write_part


def found(count: int, classes: int, seed: int = 0) -> Found:
    random = np.random.default_rng(seed)
    return Found(random.random((count, 4), np.float32), random.random((count, classes), np.float32))


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_what_is_written_is_read(tmp_path, classes):
    rows = [
        Row(0, "a.jpg", KEPT, found(5, classes), file="00000000-a.jpg", bytes=12, width=64, height=48),
        Row(1, "b.jpg", KEPT, found(0, classes), file="00000001-b.jpg", bytes=0, width=64, height=48),
        Row(2, "c.jpg", UNREAD, found(0, classes), note="is empty"),
        Row(3, "d.avi", SIMILAR, found(0, classes), frame=11),
    ]
    write_part(tmp_path / "part.parquet", rows, classes)
    for before, after in zip(rows, rows_of(read_part(tmp_path / "part.parquet")), strict=True):
        assert {**vars(before), "found": None} == {**vars(after), "found": None}
        np.testing.assert_array_equal(before.found.boxes, after.found.boxes)
        np.testing.assert_array_equal(before.found.scores, after.found.scores)
        assert after.found.scores.shape[1] == classes
    assert pl.scan_parquet(tmp_path / "*.parquet").select(pl.col("boxes").list.len().sum()).collect().item() == 5
    write_part(tmp_path / "none.parquet", [], classes)
    assert rows_of(read_part(tmp_path / "none.parquet")) == []


def test_a_file_that_was_cut_off_is_said(tmp_path):
    write_part(tmp_path / "part.parquet", [Row(0, "a.jpg", KEPT, found(5, 2))], 2)
    whole = (tmp_path / "part.parquet").read_bytes()
    for left in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "part.parquet").write_bytes(whole[:left])
        with pytest.raises(DistillError, match=r"part.parquet: is not a whole Parquet file"):
            read_part(tmp_path / "part.parquet")


@pytest.fixture
def answers(tmp_path):
    """Return the answers of 200 pictures with a gap, and of a video in two parts."""
    folder = tmp_path / FOLDER
    folder.mkdir()

    def row(number, frame=None):
        name = f"{item_name(number, frame)}-000007-x.jpg"
        return Row(number, "x", KEPT, found(2, 3, seed=1000 * number + (frame or 0)), frame, file=name)

    for first in (0, 64, 128, 192):
        write_part(folder / part_name(first), [row(n) for n in range(first, min(first + 64, 199)) if n != 70], 3)
    write_part(folder / part_name(199, 1), [row(199, frame) for frame in (1, 11, 21)], 3)
    write_part(folder / part_name(199, 31, last=True), [row(199, frame) for frame in (31, 41)], 3)
    return SoftAnswers(tmp_path)


def test_every_picture_is_found(answers):
    for number, frame in [*((n, None) for n in (0, 1, 63, 64, 127, 128, 198)), *((199, f) for f in (1, 21, 31, 41))]:
        expected = found(2, 3, seed=1000 * number + (frame or 0))
        got = answers[f"somewhere/{item_name(number, frame)}-000007-x.jpg"]
        np.testing.assert_array_equal(got.boxes, expected.boxes)
        np.testing.assert_array_equal(got.scores, expected.scores)


@pytest.mark.parametrize("name", ["00000070-000007-x.jpg", "00000199_0000002-x.jpg", "99999999-a.jpg", "cat.jpg", ""])
def test_a_picture_that_is_not_there(answers, name):
    with pytest.raises(KeyError):
        answers[name]


def test_no_answers(tmp_path):
    with pytest.raises(RequestError, match="holds no soft answers"):
        SoftAnswers(tmp_path)
