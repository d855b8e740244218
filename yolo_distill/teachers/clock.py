"""Short measurements on a machine that others use as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

#: Pictures that a model is timed on, at most: a few keep a CPU busy. On a GPU the time of a few is that of starting its
#: kernels, in which nothing differs.
AT_A_TIME, AT_A_TIME_ON_GPU = 4, 16
#: A call that takes longer than this is not repeated as often: a measurement must stay short.
LONG = 2.0


def timed_pictures(device: torch.device | str, batch: int) -> int:
    """Return how many pictures a model is to be timed on, for a run of so many at a time on that device."""
    return min(batch, AT_A_TIME if torch.device(device).type == "cpu" else AT_A_TIME_ON_GPU)


def least_seconds(
    calls: Mapping[str, Callable[[], object]], device: torch.device | str = "cpu", repeats: int = 3
) -> dict[str, float]:
    """Return the least time of each call in seconds, by name.

    The calls take turns, so that a moment in which the machine is busy meets all of them; the least of a few is what
    the machine can do. Each has one turn before that counts for nothing: first calls set things up.
    """
    kind = torch.device(device).type

    def wait() -> None:
        if kind != "cpu":
            getattr(torch, kind).synchronize()

    least = dict.fromkeys(calls, float("inf"))
    for turn in range(-1, repeats):
        began = time.perf_counter()
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            if turn >= 0:
                least[name] = min(least[name], time.perf_counter() - start)
        if turn >= 0 and time.perf_counter() - began > LONG * len(calls):
            break
    return least
