"""Both layouts of the network's answer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from made_detector import dense, rows

from yolo_distill.runtime import decode
from yolo_distill.runtime.decode import decode_dense, decode_end2end

LEFT = (10, 10, 10, 10)  # centre x, centre y, width, height
RIGHT = (40, 10, 20, 10)


def run_dense(raw, **settings):
    given = {"conf": 0.25, "iou": 0.7, "max_det": 300, "classes": None, "agnostic": False, **settings}
    return decode_dense(raw, **given)


def run_end2end(raw, **settings):
    return decode_end2end(raw, **{"conf": 0.25, "max_det": 300, "classes": None, **settings})


@pytest.mark.parametrize(
    ("columns", "settings", "scores", "classes"),
    [
        ([], {}, [], []),
        ([(*LEFT, 0.2, 0.1, 0)], {}, [], []),
        ([(*LEFT, 0.25, 0, 0)], {}, [], []),  # has to be above, not at
        ([(*LEFT, 0.5, 0.6, 0.4)], {}, [0.6], [1]),  # one class for each anchor
        ([(*LEFT, 0.5, 0, 0), (*RIGHT, 0, 0, 0.9)], {}, [0.9, 0.5], [2, 0]),
        ([(*LEFT, 0.5, 0, 0), (*LEFT, 0.7, 0, 0)], {}, [0.7], [0]),  # the same object twice
        ([(*LEFT, 0.5, 0, 0), (*LEFT, 0, 0.7, 0)], {}, [0.7, 0.5], [1, 0]),
        ([(*LEFT, 0.5, 0, 0), (*LEFT, 0, 0.7, 0)], {"agnostic": True}, [0.7], [1]),
        ([(*LEFT, 0.5, 0, 0), (*RIGHT, 0, 0.7, 0)], {"classes": np.array([0])}, [0.5], [0]),
        ([(*LEFT, 0.5, 0.6, 0)], {"classes": np.array([0])}, [], []),  # its best class is another
        ([(*LEFT, 0.5, 0, 0)], {"classes": np.array([], np.int64)}, [], []),
        ([(*LEFT, 0.5, 0, 0), (*RIGHT, 0, 0, 0.9)], {"max_det": 1}, [0.9], [2]),
    ],
)
def test_dense(columns, settings, scores, classes):
    found = run_dense(dense(*columns), **settings)
    np.testing.assert_allclose(found.scores, np.array(scores, np.float32))
    assert found.class_id.tolist() == classes
    assert found.xyxy.shape == (len(scores), 4)
    assert [part.dtype for part in found] == [np.float32, np.float32, np.int64]


def test_dense_corners():
    found = run_dense(dense((40, 10, 20, 10, 0.9, 0, 0)))
    assert found.xyxy.tolist() == [[30, 5, 50, 15]]


FIRST, SECOND = (1, 2, 3, 4, 0.9, 2), (5, 6, 7, 8, 0.5, 0)


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        ([], {}, []),
        ([FIRST, SECOND], {}, [FIRST, SECOND]),
        ([SECOND, FIRST], {}, [SECOND, FIRST]),  # the file's own order
        ([FIRST, FIRST], {}, [FIRST, FIRST]),  # it is final: nothing is suppressed
        ([FIRST, SECOND], {"conf": 0.5}, [FIRST]),
        ([FIRST, SECOND], {"conf": 0.0}, [FIRST, SECOND]),  # rows that were not needed have score 0
        ([FIRST, SECOND], {"classes": np.array([0])}, [SECOND]),
        ([FIRST, SECOND], {"classes": np.array([0]), "max_det": 1}, [SECOND]),  # first the class, then the number
        ([FIRST, SECOND], {"max_det": 1}, [FIRST]),
    ],
)
def test_end2end(given, settings, expected):
    found = run_end2end(rows(*given), **settings)
    table = np.column_stack([found.xyxy, found.scores, found.class_id]).reshape(-1, 6)
    np.testing.assert_allclose(table, np.array(expected, np.float32).reshape(-1, 6))
    assert [part.dtype for part in found] == [np.float32, np.float32, np.int64]


def calls(work) -> int:
    """Return how many calls, of Python and of C functions, some work takes."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("hits", [0, 20])
def test_more_anchors_are_not_more_steps(hits):
    columns = [(30 * number, 30, 20, 20, 0.9, 0, 0) for number in range(hits)]
    small, large = (dense(*columns, anchors=anchors) if columns else dense(anchors=anchors) for anchors in (60, 30_000))
    assert calls(lambda: run_dense(large)) <= calls(lambda: run_dense(small)) + 5


def test_candidates_for_the_same_object_are_not_more_steps():
    few, many = (dense(*[(*LEFT, 0.9, 0, 0)] * count, anchors=3000) for count in (10, 1000))
    assert calls(lambda: run_dense(many)) <= calls(lambda: run_dense(few)) + 5


def test_no_more_candidates_than_the_limit(monkeypatch):
    monkeypatch.setattr(decode, "_MOST_CANDIDATES", 30)
    raw = np.zeros((5, 100), np.float32)
    raw[2:4], raw[4] = 1, np.linspace(0.3, 0.9, 100)
    raw[0] = 5 * np.arange(100)
    found = run_dense(raw)
    np.testing.assert_array_equal(found.scores, raw[4, :-31:-1])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("row", range(7))
def test_what_is_no_number_is_no_answer(broken, row):
    """In a box or in a score, sure or not: it would be nothing found, or a box that is nowhere."""
    raw = dense((*LEFT, 0.9, 0, 0))
    raw[row, 3] = broken
    with pytest.raises(FloatingPointError, match="nan or infinity"):
        run_dense(raw)
    ended = rows(FIRST)
    ended[1, min(row, 5)] = broken
    with pytest.raises(FloatingPointError, match="nan or infinity"):
        run_end2end(ended)


def test_opposite_infinities_do_not_cancel():
    raw = dense((*LEFT, 0.9, 0, 0))
    raw[0, 3], raw[1, 4] = np.inf, -np.inf
    with pytest.raises(FloatingPointError):
        run_dense(raw)
