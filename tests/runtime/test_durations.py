"""Percentiles out of a histogram."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_distill.runtime.durations import Durations


def counted(*values):
    durations = Durations()
    for value in values:
        durations.add(float(value))
    return durations


def test_percentiles():
    values = np.random.default_rng(0).lognormal(-3, 1, 5001)
    durations = counted(*values)
    for percent in (5, 50, 95, 99):
        exact = float(np.percentile(values, percent, method="inverted_cdf"))
        assert durations.percentile(percent) == pytest.approx(exact, rel=0.011)
    assert durations.longest == values.max()
    # Memory does not grow.
    assert [np.size(one) for one in vars(durations).values()] == [np.size(one) for one in vars(counted(0.1)).values()]


@pytest.mark.parametrize("values", [(), (-1,), (0,), (1e-9,), (0.04,), (1e6,)])
def test_any_length(values):
    durations = counted(*values)
    assert durations.percentile(50) <= durations.longest == max(*values, 0, 0)
