"""Gains that follow the gradients: each distillation term gets its wanted share of the task's gradient.

A gain says nothing about a term's strength: losses differ in scale by orders of magnitude, and change theirs as the
student learns. What the student feels is the gradient. So every few dozen steps the gradient norm of each term at the
neck maps, the last tensors that all terms share, is compared with the task's, and the term's gain moves.

Source of the idea: Chen et al., "GradNorm", ICML 2018, arXiv 1711.02257, which compares gradient norms at the last
shared layer as well. Departures: the shares are what the recipe asks for instead of following from training rates, and
gains are set by division instead of being learned, since gradients are proportional to them.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Batches between two comparisons, so that they take half a percent of the time; epochs of fewer batches have one each,
#: which is above 2 % where there are less than 9 of them (tests/benchmarks/balance_cost.py).
MEASURE_EVERY = 32
#: Exponent of a correction: the share of one batch is noisy, and its square root is a moving average in logarithms.
SMOOTHING = 0.5
#: A gain moves at most by this factor at a time, and stays within this factor of what it is in the recipe. A term whose
#: gradient vanishes (the student has learned it) must not be blown up without end.
LARGEST_MOVE, FARTHEST = 4.0, 1000.0


class Balancer:
    """Keeps the factors by which the recipe's gains are multiplied.

    Attributes:
        shares: wanted gradient norm of each term, divided by the task's.
        factors: of the gains now.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)
        self.factors = dict.fromkeys(self.shares, 1.0)
        self._seen: set[str] = set()

    def observe(self, measured: Mapping[str, float]) -> None:
        """Move the factors after a measurement.

        Args:
            measured: gradient norm of each term divided by the task's, as it would be at full strength of its schedule
                with the factors as they are. 0 says nothing about a term: the batch may have nothing to teach.
        """
        for name, wanted in self.shares.items():
            share = measured.get(name, 0.0)
            if not share > 0:
                continue
            # The recipe's gain is only a guess, so that the first correction is a whole one.
            move = (wanted / share) ** (SMOOTHING if name in self._seen else 1.0)
            if name in self._seen:
                move = min(max(move, 1 / LARGEST_MOVE), LARGEST_MOVE)
            self._seen.add(name)
            self.factors[name] = min(max(self.factors[name] * move, 1 / FARTHEST), FARTHEST)

    def restore(self, factors: Mapping[str, float]) -> None:
        """Go on with the factors of a run that was interrupted."""
        self.factors |= {name: factor for name, factor in factors.items() if name in self.factors and factor > 0}
        self._seen |= self.factors.keys() & factors.keys()
