"""Rows and columns that find each other, by hand."""

from __future__ import annotations

import numpy as np

from yolo_distill.evaluation.detection_agreement import greedy_pairs

CLOSENESS = np.array([[0.6, 0.9, 0.8], [0.7, 0.95, 0.5]])


def test_row_by_row_each_takes_its_closest_free_column() -> None:
    assert greedy_pairs(CLOSENESS, CLOSENESS > 0.55) == [(0, 1), (1, 0)]


def test_the_closest_pair_of_all_comes_first() -> None:
    assert greedy_pairs(CLOSENESS, CLOSENESS > 0.55, closest_first=True) == [(1, 1), (0, 2)]


def test_what_is_not_allowed_is_no_pair() -> None:
    assert greedy_pairs(CLOSENESS, CLOSENESS > 0.92) == [(1, 1)]
    assert greedy_pairs(np.zeros((0, 3)), np.zeros((0, 3), bool)) == []
