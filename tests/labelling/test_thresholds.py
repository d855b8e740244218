"""Thresholds a class: the best F1 by trying all, and `conf` where there is too little to choose by."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_distill.evaluation.box_matching import Boxes
from yolo_distill.labelling.objects import Found
from yolo_distill.labelling.thresholds import ENOUGH, Calibration, best_f1, hard_labels

BOX = np.array([[0, 0, 10, 10]], np.float32)


def picture(score: float, right: bool, column: int = 0) -> tuple[Found, Boxes]:
    """Return one box of a class of two, and a label under it or elsewhere."""
    scores = np.full((1, 2), 0.01, np.float32)
    scores[0, column] = score
    return Found(BOX, scores), Boxes(BOX if right else BOX + 100, np.array([column]))


def test_by_hand():
    scores, right = np.array([0.2, 0.9, 0.6, 0.4], np.float32), np.array([False, True, True, False])
    assert best_f1(scores, right, 2) == (0.5, 1.0)  # 2 of 2, between 0.6 and 0.4
    assert best_f1(scores, right, 20) == (0.5, round(2 * 2 / 22, 3))
    assert best_f1(np.array([0.3], np.float32), np.array([False]), 5) == (0.3, 0.0)
    # Boxes of one score are kept or left together.
    assert best_f1(np.array([0.5, 0.5, 0.5], np.float32), np.array([True, False, False]), 1) == (0.5, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_none_is_better_than_the_one_that_is_found(seed):
    random = np.random.default_rng(seed)
    scores = random.random(200).astype(np.float32)
    right = random.random(200) < scores
    labels = int(right.sum()) + 20

    def f1(at):
        kept = scores >= at
        return 2 * int((kept & right).sum()) / (int(kept.sum()) + labels)

    at, best = best_f1(scores, right, labels)
    assert best == pytest.approx(max(map(f1, scores)), abs=6e-4)
    assert f1(at) == pytest.approx(best, abs=6e-4)


def test_a_class_with_few_boxes_keeps_conf():
    gathered = Calibration(2)
    for number in range(ENOUGH):
        gathered.add(*picture(0.8, True))
        gathered.add(*picture(0.3, False))
        if number < ENOUGH - 1:
            gathered.add(*picture(0.9, True, column=1))
    disc, square = gathered.choose(0.25)
    assert (disc.boxes, square.boxes) == (2 * ENOUGH, ENOUGH - 1)
    assert disc.at == pytest.approx(0.55)
    assert disc.f1 == pytest.approx(2 * ENOUGH / (ENOUGH + 2 * ENOUGH), abs=1e-3)
    assert (square.at, square.f1) == (0.25, None)


def test_a_class_that_is_never_right_or_never_found_keeps_conf():
    gathered = Calibration(2)
    for _ in range(ENOUGH):
        gathered.add(*picture(0.8, False))
        gathered.add(Found.nothing(2), Boxes(BOX, np.array([1])))
    assert [(one.at, one.f1) for one in gathered.choose(0.4)] == [(0.4, None)] * 2


def test_two_boxes_on_one_label_are_one_right_and_one_false():
    gathered = Calibration(1)
    for _ in range(ENOUGH):
        twice = Found(BOX.repeat(2, 0), np.array([[0.9], [0.8]], np.float32))
        gathered.add(twice, Boxes(BOX, np.array([0])))
    assert gathered.choose(0.4)[0].at == pytest.approx(0.85)  # the second is not worth having


def test_hard_labels():
    scores = np.array([[0.4, 0.3], [0.2, 0.6]], np.float32)
    classes, margins = hard_labels(scores, np.array([0.5, 0.5], np.float32))
    assert classes.tolist() == [0, 1]
    assert margins.tolist() == pytest.approx([-0.1, 0.1])
    classes, margins = hard_labels(np.zeros((0, 2), np.float32), np.zeros(2, np.float32))
    assert len(classes) == len(margins) == 0
