"""Parquet: what is written is read, whatever there is of it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from yolo_distill.errors import DistillError
from yolo_distill.labelling.objects import Found
from yolo_distill.labelling.parquet import KEPT, SIMILAR, UNREAD, Row, read_part, rows_of, write_part


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


@pytest.mark.parametrize("content", [{"number": [1]}, {"number": ["1"]}])
def test_a_part_with_other_columns_is_refused(content, tmp_path):
    pl.DataFrame(content).write_parquet(tmp_path / "part.parquet")
    with pytest.raises(DistillError, match=r"part.parquet: is no part of labels \(its column "):
        read_part(tmp_path / "part.parquet")
