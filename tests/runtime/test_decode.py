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
CORNERS = {LEFT[0]: [5, 5, 15, 15], RIGHT[0]: [30, 5, 50, 15]}
FIRST, SECOND = (1, 2, 3, 4, 0.9, 2), (5, 6, 7, 8, 0.5, 0)


def run_dense(raw, **settings):
    given = {"conf": 0.25, "iou": 0.7, "max_det": 300, "classes": None, "agnostic": False, **settings}
    return decode_dense(raw, **given)


def run_end2end(raw, **settings):
    return decode_end2end(raw, **{"conf": 0.25, "max_det": 300, "classes": None, **settings})


def table(found):
    """Return detections as rows; of the types that users get."""
    assert [part.dtype for part in found[:3]] == [np.float32, np.float32, np.int64]
    return np.column_stack([found.xyxy, found.scores, found.class_id]).reshape(-1, 6)


@pytest.mark.parametrize(
    ("columns", "settings", "expected"),
    [
        ([], {}, []),
        ([(*LEFT, 0.2, 0.1, 0)], {}, []),
        ([(*LEFT, 0.25, 0, 0)], {}, []),  # has to be above, not at
        ([(*LEFT, 0.5, 0.6, 0.4)], {}, [(LEFT, 0.6, 1)]),  # one class for each anchor
        ([(*LEFT, 0.5, 0, 0), (*RIGHT, 0, 0, 0.9)], {}, [(RIGHT, 0.9, 2), (LEFT, 0.5, 0)]),
        ([(*LEFT, 0.5, 0, 0), (*LEFT, 0.7, 0, 0)], {}, [(LEFT, 0.7, 0)]),  # the same object twice
        ([(*LEFT, 0.5, 0, 0), (*LEFT, 0, 0.7, 0)], {}, [(LEFT, 0.7, 1), (LEFT, 0.5, 0)]),
        ([(*LEFT, 0.5, 0, 0), (*LEFT, 0, 0.7, 0)], {"agnostic": True}, [(LEFT, 0.7, 1)]),
        ([(*LEFT, 0.5, 0, 0), (*RIGHT, 0, 0.7, 0)], {"classes": np.array([0])}, [(LEFT, 0.5, 0)]),
        ([(*LEFT, 0.5, 0.6, 0)], {"classes": np.array([0])}, []),  # its best class is another
        ([(*LEFT, 0.5, 0, 0)], {"classes": np.array([], np.int64)}, []),
        ([(*LEFT, 0.5, 0, 0), (*RIGHT, 0, 0, 0.9)], {"max_det": 1}, [(RIGHT, 0.9, 2)]),
    ],
)
def test_dense(columns, settings, expected):
    found = table(run_dense(dense(*columns), **settings))
    wanted = [(*CORNERS[box[0]], score, class_id) for box, score, class_id in expected]
    np.testing.assert_allclose(found, np.array(wanted, np.float32).reshape(-1, 6))


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        ([], {}, []),
        ([SECOND, FIRST], {}, [SECOND, FIRST]),  # the file's own order
        ([FIRST, FIRST], {}, [FIRST, FIRST]),  # it is final: nothing is suppressed
        ([FIRST, SECOND], {"conf": 0.5}, [FIRST]),
        ([FIRST, SECOND], {"conf": 0.0}, [FIRST, SECOND]),  # rows that were not needed have score 0
        ([FIRST, SECOND], {"classes": np.array([0]), "max_det": 1}, [SECOND]),  # first the class, then the number
        ([FIRST, SECOND], {"max_det": 1}, [FIRST]),
    ],
)
def test_end2end(given, settings, expected):
    found = table(run_end2end(rows(*given), **settings))
    np.testing.assert_allclose(found, np.array(expected, np.float32).reshape(-1, 6))


def calls(raw) -> int:
    """Return how many calls, of Python and of C functions, the decoding of an answer takes."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        run_dense(raw)
    finally:
        sys.setprofile(None)
    return count


APART = [(30 * number, 30, 20, 20, 0.9, 0, 0) for number in range(20)]


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (dense(anchors=60), dense(anchors=30_000)),
        (dense(*APART, anchors=60), dense(*APART, anchors=30_000)),
        (dense(*[(*LEFT, 0.9, 0, 0)] * 10, anchors=3000), dense(*[(*LEFT, 0.9, 0, 0)] * 1000, anchors=3000)),
    ],
    ids=["nothing", "objects", "candidates for one object"],
)
def test_more_anchors_are_not_more_steps(few, many):
    assert calls(many) <= calls(few) + 5


def test_no_more_candidates_than_the_limit(monkeypatch):
    monkeypatch.setattr(decode, "_MOST_CANDIDATES", 30)
    raw = np.zeros((5, 100), np.float32)
    raw[2:4], raw[4] = 1, np.linspace(0.3, 0.9, 100)
    raw[0] = 5 * np.arange(100)
    np.testing.assert_array_equal(run_dense(raw).scores, raw[4, :-31:-1])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("row", range(7))
def test_what_is_no_number_is_no_answer(broken, row):
    """In a box or in a score, sure or not: it would be nothing found, or a box that is nowhere."""
    raw, ended = dense((*LEFT, 0.9, 0, 0)), rows(FIRST)
    raw[row, 3] = ended[1, min(row, 5)] = broken
    raw[0, 4] = -broken if row == 1 else 0  # opposite infinities do not cancel
    for run, answer in ((run_dense, raw), (run_end2end, ended)):
        with pytest.raises(FloatingPointError, match="nan or infinity"):
            run(answer)
