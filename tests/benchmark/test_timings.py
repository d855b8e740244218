"""Percentiles, ratios and turns, against numbers done by hand."""

from __future__ import annotations

import math

import pytest

from yolo_distill.benchmark.timings import Spread, paired_ratios, percentile, rotated, spread


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 95, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.5),
        ([4.0, 1.0, 3.0, 2.0], 0, 1.0),
        ([4.0, 1.0, 3.0, 2.0], 100, 4.0),
        ([10.0, 20.0, 30.0, 40.0, 50.0], 95, 48.0),  # place 3.8: 40 + 0.8 * 10
        ([1.0, 2.0], 25, 1.25),
    ],
)
def test_percentile(values, percent, expected):
    assert percentile(values, percent) == pytest.approx(expected)


def test_nothing_has_no_percentile():
    assert math.isnan(percentile([], 50))


def test_ratios_are_taken_within_rounds():
    # Medians 2, 30, 6 against 1, 10, 4: the slow second round, slow for both, is a ratio as good as the others. All
    # times thrown together would give 6 / 4.
    mine = [[2.0, 2.0, 9.0], [30.0], [5.0, 7.0]]
    base = [[1.0], [10.0, 10.0, 11.0], [4.0]]
    assert paired_ratios(mine, base) == pytest.approx([2.0, 3.0, 1.5])


def test_rounds_have_to_be_pairs():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired_ratios([[1.0], [1.0]], [[1.0]])


def test_spread_is_median_and_quartiles():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("found", "noisy", "undecided"),
    [
        (Spread(2.0, 1.95, 2.05), False, False),
        (Spread(2.0, 1.85, 2.1), True, False),  # 0.25 is more than a tenth of 2
        (Spread(1.0, 0.99, 1.02), False, True),
        (Spread(0.9, 0.7, 1.2), True, True),
    ],
)
def test_what_a_spread_leaves_open(found, noisy, undecided):
    assert (found.noisy, found.undecided) == (noisy, undecided)


def test_everyone_is_in_each_place_once():
    orders = [rotated(3, turn) for turn in range(3)]
    assert orders == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert rotated(3, 4) == rotated(3, 1)
    assert rotated(0, 4) == []
