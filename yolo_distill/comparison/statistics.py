"""Statistics of paired seeds: mean difference with a 95 % interval, a count of signs, and what may be said of them.

Runs of one seed share pictures and order, so arms are compared seed by seed; Student's t interval of those differences
(n - 1 degrees of freedom) says how far the mean over other seeds may lie. It knows nothing of other test pictures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Deviation of differences that are the same but for rounding.
_ALIKE = 1e-9
#: Lead of the teacher in points, below which a share of it says nothing.
_LEAD = 1.0


@dataclass(frozen=True)
class Difference:
    """One arm minus another (`base`), by seed, over the seeds that both have."""

    arm: str
    base: str
    each: dict[int, float]

    @property
    def count(self) -> int:
        """Number of pairs."""
        return len(self.each)

    @property
    def mean(self) -> float | None:
        """Mean difference, None without a pair."""
        return statistics.fmean(self.each.values()) if self.each else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t interval of the mean; None with fewer than two pairs, and of pairs that are all alike.

        One of no width would say that all other seeds come out the same, which a few boxes that are found or not feign.
        """
        if self.count < 2 or (deviation := statistics.stdev(self.each.values())) < _ALIKE:
            return None
        mean = statistics.fmean(self.each.values())
        half = t_quantile(self.count - 1) * deviation / math.sqrt(self.count)
        return mean - half, mean + half

    @property
    def ahead(self) -> int:
        """Number of seeds in which the arm is ahead."""
        return sum(value > 0 for value in self.each.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as plain values."""
        return {
            "arm": self.arm,
            "base": self.base,
            "each": {str(seed): value for seed, value in self.each.items()},
            "mean": self.mean,
            "interval": list(self.interval) if self.interval else None,
            "ahead": self.ahead,
            "behind": sum(value < 0 for value in self.each.values()),
        }


def difference(arm: str, base: str, values: Mapping[str, Mapping[int, float]]) -> Difference:
    """Return the paired difference of two arms, of values by arm and seed."""
    ours, theirs = values.get(arm, {}), values.get(base, {})
    return Difference(arm, base, {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs})


def gap_recovered(
    arm: str, base: str, values: Mapping[str, Mapping[int, float]], teacher: float | None
) -> float | None:
    """Return which share of the teacher's lead over `base` the arm has, on means over the seeds that both have.

    Values are points, 0..100.

    Returns:
        1 for an arm as good as the teacher; None where the teacher is not a point ahead of `base`, or nothing can be
        paired.
    """
    paired = difference(arm, base, values)
    if teacher is None or paired.mean is None:
        return None
    lead = teacher - statistics.fmean(values[base][seed] for seed in paired.each)
    return paired.mean / lead if lead >= _LEAD else None


def verdict(found: Difference, *, what: str, seeds: list[int]) -> str:
    """Return in one sentence what may be said.

    Args:
        found: differences in points.
        what: what was measured, such as `mAP50-95 on test`.
        seeds: that there should be.
    """
    if found.mean is None:
        return f"nothing can be said yet: no seed has both {found.arm} and {found.base}"
    missing = [str(seed) for seed in seeds if seed not in found.each]
    lacks = f" (seed {', '.join(missing)} missing)" if missing else ""
    mean = round(found.mean, 1) + 0  # -0.0 is 0
    side = "ahead of" if found.mean > 0 else "behind"
    points = f"{abs(mean):.1f}"
    if found.interval is None and (mean or found.count == 1):
        lead = f"{points} {side}" if mean else "level with"
        few = "one seed proves" if found.count == 1 else f"{found.count} seeds that come out alike prove"
        listed = ", ".join(map(str, found.each))
        return f"{few} nothing: {found.arm} is {lead} {found.base} in {what} with seed {listed}{lacks}"
    low, high = found.interval or (0.0, 0.0)
    if low <= 0 <= high:
        span = f" [{low:+.1f}, {high:+.1f}]" if found.interval else ""
        return (
            f"no difference between {found.arm} and {found.base} can be seen with {found.count} seeds: "
            f"{mean:+.1f}{span} {what}{lacks}"
        )
    near, far = sorted((abs(low), abs(high)))
    return (
        f"{found.arm} is {side} {found.base} by {points} [{near:.1f}, {far:.1f}] {what} over {found.count} seeds{lacks}"
    )


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t for a whole number of degrees of freedom, by bisection."""
    low, high = 0.0, 1e4
    while high - low > 1e-10 * max(high, 1.0):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_distribution(middle, freedom) < 0.975 else (low, middle)
    return (low + high) / 2


def _t_distribution(t: float, freedom: int) -> float:
    """Return P(T <= t) for t >= 0.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = 1.0 if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 0.5 + ((angle + sine * cosine * total) / math.pi if odd else sine * total / 2)
