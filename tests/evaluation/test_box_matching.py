"""Which boxes of one picture are right, by boxes whose overlap is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ultralytics.utils.metrics import bbox_ioa

from yolo_distill.comparison.pictures import choose
from yolo_distill.evaluation.box_matching import Boxes, match, read_labels


def boxes(*rows: tuple[float, float, float, float, int]) -> Boxes:
    made = np.asarray(rows, np.float32).reshape(-1, 5)
    return Boxes(made[:, :4], made[:, 4].astype(np.int64))


def test_iou_by_hand() -> None:
    one = boxes((0, 0, 10, 10, 0)).xyxy
    others = boxes((0, 0, 10, 10, 0), (5, 0, 15, 10, 0), (20, 20, 30, 30, 0), (0, 0, 10, 5, 0)).xyxy
    assert bbox_ioa(one, others, iou=True)[0] == pytest.approx([1, 50 / 150, 0, 0.5])


def test_a_label_is_found_once_and_by_its_class() -> None:
    labels = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 1))
    found = match(boxes((0, 0, 10, 10, 0), (0, 0, 10, 9, 0), (20, 0, 30, 10, 0), (20, 0, 30, 10, 1)), labels)
    assert found.right.tolist() == [True, False, False, True]
    assert found.seen.tolist() == [True, True]
    assert found.f1 == pytest.approx(2 * 2 / (4 + 2))


def test_each_box_takes_the_label_that_it_overlaps_most() -> None:
    labels = boxes((0, 0, 10, 10, 0), (2, 0, 12, 10, 0))
    found = match(boxes((2, 0, 12, 10, 0), (0, 0, 10, 10, 0)), labels)
    assert found.right.all()
    assert found.seen.all()
    assert found.f1 == 1


@pytest.mark.parametrize(
    ("found", "labels", "f1"), [((), (), 1), (((0, 0, 9, 9, 0),), (), 0), ((), ((0, 0, 9, 9, 0),), 0)]
)
def test_nothing_found_and_nothing_there(found: tuple, labels: tuple, f1: float) -> None:
    assert match(boxes(*found), boxes(*labels)).f1 == f1


def test_labels_are_boxes_and_outlines(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n2 0.1\n")
    read = read_labels(file, height=50, width=100)
    assert read.classes.tolist() == [1, 0]
    assert read.xyxy == pytest.approx(np.array([[40, 15, 60, 35], [10, 10, 30, 30]]), abs=1e-4)
    assert len(read_labels(tmp_path / "none.txt", 50, 100)) == 0


def test_the_pictures_chosen_are_the_extremes() -> None:
    lead = {f"{i}.jpg": value for i, value in enumerate([0.1, 0.0, 0.5, 0.3, 0.2, -0.4, -0.1, 0.0])}
    assert choose(lead) == ["2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg"]
    assert choose({"a": 0.0, "b": 0.0}) == []
    assert choose({}) == []
