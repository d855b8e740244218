"""Both layouts of the network's answer: what it costs, and what is none; `tests/golden/decode.json` has the rest."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from made_detector import dense, rows

from yolo_distill.runtime import decode
from yolo_distill.runtime.decode import decode_dense, decode_end2end

LEFT = (10, 10, 10, 10)  # centre x, centre y, width, height
FIRST = (1, 2, 3, 4, 0.9, 2)


def run_dense(raw):
    return decode_dense(raw, conf=0.25, iou=0.7, max_det=300, classes=None, agnostic=False)


def run_end2end(raw):
    return decode_end2end(raw, conf=0.25, max_det=300, classes=None)


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
