"""Which boxes of one picture are right, by boxes whose overlap is known."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_distill.comparison.pictures import choose
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.box_matching import Boxes, labels_of, match
from yolo_distill.evaluation.detection_agreement import greedy_pairs

Rows = list[tuple[float, float, float, float, int]]


def boxes(rows: Rows) -> Boxes:
    made = np.asarray(rows, np.float32).reshape(-1, 5)
    return Boxes(made[:, :4], made[:, 4].astype(np.int64))


@pytest.mark.parametrize(
    ("found", "labels", "right", "seen", "f1"),
    [
        # A label is found once and by its class.
        ([(0, 0, 10, 10, 0), (0, 0, 10, 9, 0), (20, 0, 30, 10, 0), (20, 0, 30, 10, 1)],
         [(0, 0, 10, 10, 0), (20, 0, 30, 10, 1)], [True, False, False, True], [True, True], 2 * 2 / (4 + 2)),
        # Each box takes the label that it overlaps most.
        ([(2, 0, 12, 10, 0), (0, 0, 10, 10, 0)], [(0, 0, 10, 10, 0), (2, 0, 12, 10, 0)], [True] * 2, [True] * 2, 1),
        # An overlap (IoU) of 0.5 will do, one of 0.49 will not.
        ([(0, 0, 10, 5, 0)], [(0, 0, 10, 10, 0)], [True], [True], 1),
        ([(0, 0, 10, 4.9, 0)], [(0, 0, 10, 10, 0)], [False], [False], 0),
        ([], [], [], [], 1),
        ([(0, 0, 9, 9, 0)], [], [False], [], 0),
        ([], [(0, 0, 9, 9, 0)], [], [False], 0),
    ],
)  # fmt: skip
def test_what_is_right_and_what_was_seen(
    found: Rows, labels: Rows, right: list[bool], seen: list[bool], f1: float
) -> None:
    matched = match(boxes(found), boxes(labels))
    assert (matched.right.tolist(), matched.seen.tolist()) == (right, seen)
    assert matched.f1 == pytest.approx(f1)


def test_pairs_are_taken_row_by_row_or_the_closest_first() -> None:
    closeness = np.array([[0.6, 0.9, 0.8], [0.7, 0.95, 0.5]])
    assert greedy_pairs(closeness, closeness > 0.55) == [(0, 1), (1, 0)]
    assert greedy_pairs(closeness, closeness > 0.55, closest_first=True) == [(1, 1), (0, 2)]
    assert greedy_pairs(closeness, closeness > 0.92) == [(1, 1)]
    assert greedy_pairs(np.zeros((0, 3)), np.zeros((0, 3), bool)) == []


#: Text of a label file, and how many boxes it has; None where the host leaves the picture out.
LABELS: list[tuple[str, int | None]] = [
    ("1 0.5 0.5 0.2 0.4\n\n0.0 0.2 0.4 0.2 0.4\n", 2), ("", 0),
    ("0 .5 .5 .2 .2\n" * 2, 1), ("2 .5 .5 .2 .2\n0 .5 .5 .2 .2\n", None), ("0 .5 .5 .2\n0 .5 .5 .2 .2\n", None),
    ("0 .5 .5 .2 .2\n0 .1 .1 .2 .1 .2 .2 .1 .2\n", None), ("disc .5 .5 .2 .2\n", None), ("0 50 50 20 20\n", None),
]  # fmt: skip


def test_labels_are_those_that_the_host_trains_on(tmp_path: Path) -> None:
    picture, label = tmp_path / "images" / "a.png", tmp_path / "labels" / "a.txt"
    for file in (picture, label):
        file.parent.mkdir()
    cv2.imwrite(str(picture), np.zeros((50, 100, 3), np.uint8))
    assert len(labels_of(str(picture), (50, 100), 2)[0]) == 0  # without a file
    for text, count in LABELS:
        label.write_text(text, encoding="utf-8")
        with nullcontext() if count is not None else pytest.raises(RequestError, match=r"a\.txt: is no label file"):
            assert len(labels_of(str(picture), (50, 100), 2)[0]) == count
    label.write_text("1 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n0 0.1 0.1 0.2 0.1 0.2 0.3\n")
    read = labels_of(str(picture), (50, 100), 2)[0]
    assert read.classes.tolist() == [1, 0]
    assert read.xyxy == pytest.approx(np.array([[10, 10, 30, 30], [10, 5, 20, 15]]), abs=1e-4)


def test_the_pictures_chosen_are_the_extremes() -> None:
    lead = {f"{i}.jpg": value for i, value in enumerate([0.1, 0.0, 0.5, 0.3, 0.2, -0.4, -0.1, 0.0])}
    assert choose(lead) == ["2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg"]
    assert choose({"a": 0.0, "b": 0.0}) == []
