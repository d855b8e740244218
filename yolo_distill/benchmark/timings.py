"""What may be said of times that were measured in rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Quartiles of per-round ratios further apart than this share of their median say that the machine was not quiet.
NOISY = 0.1


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles.

    Attributes:
        median: half of the values are below.
        low: a quarter of the values are below.
        high: a quarter of the values are above.
    """

    median: float
    low: float
    high: float

    @property
    def noisy(self) -> bool:
        """Whether the quartiles are further apart than what a quiet machine gives."""
        return self.high - self.low > NOISY * self.median

    @property
    def undecided(self) -> bool:
        """Whether, as a ratio, it leaves open which of the two is faster."""
        return self.low <= 1 <= self.high


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie, interpolated between neighbours; nan of nothing.

    Args:
        values: in any order.
        percent: 0 to 100.
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; at least one value."""
    return Spread(percentile(values, 50), percentile(values, 25), percentile(values, 75))


def paired_ratios(mine: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> list[float]:
    """Return, round by round, the median of `mine` divided by the median of `base`.

    What disturbs a machine for seconds disturbs both sides of a round, and leaves their ratio alone.

    Args:
        mine: times of each round.
        base: times of each round, as many rounds.
    """
    return [percentile(a, 50) / percentile(b, 50) for a, b in zip(mine, base, strict=True)]


def rotated(count: int, turn: int) -> list[int]:
    """Return 0 to `count` - 1, beginning with `turn`: over `count` rounds everyone is in each place once."""
    return [(turn + place) % count for place in range(count)]
