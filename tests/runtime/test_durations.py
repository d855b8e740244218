"""Percentiles out of a histogram."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_distill.runtime.durations import Durations


def counted(values):
    durations = Durations()
    for value in values:
        durations.add(float(value))
    return durations


def test_nothing():
    assert (Durations().percentile(50), Durations().longest) == (0, 0)


@pytest.mark.parametrize("percent", [5, 50, 95, 99])
def test_percentiles(percent):
    values = np.random.default_rng(0).lognormal(-3, 1, 5001)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    durations = counted(values)
    assert durations.percentile(percent) == pytest.approx(exact, rel=0.011)
    assert durations.longest == values.max()


@pytest.mark.parametrize("value", [-1, 0, 1e-9, 0.04, 1e6])
def test_any_length(value):
    durations = counted([value])
    assert durations.percentile(50) <= durations.longest == max(value, 0)


def test_memory_does_not_grow():
    few, many = counted([0.1]), counted([0.1, 0.2] * 5000)
    assert {name: np.size(value) for name, value in vars(few).items()} == {
        name: np.size(value) for name, value in vars(many).items()
    }
