"""Percentiles of any number of durations in a fixed amount of memory."""

from __future__ import annotations

import math

import numpy as np

_SHORTEST, _STEP, _BINS = 1e-5, 1.01, 2100  # seconds; each bin is 1 % wider than the one before, up to some 3 hours


class Durations:
    """A histogram of durations.

    Attributes:
        longest: the longest one, in seconds; 0 where there is none.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.longest = max(self.longest, seconds)
        place = int(math.log(max(seconds / _SHORTEST, 1), _STEP))
        self._counts[min(place, _BINS - 1)] += 1

    def percentile(self, percent: float) -> float:
        """Return the duration in seconds, right to half a percent, below which `percent` of them lie; 0 for none."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), max(total * percent / 100, 1)))
        return min(_SHORTEST * _STEP ** (place + 0.5), self.longest)
