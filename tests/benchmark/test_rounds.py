"""Who is measured when, with engines that only move a clock."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from made_rows import made_row

from yolo_distill.benchmarking.engines import Engine
from yolo_distill.benchmarking.rounds import MOST_REPEATS, Arm, measure

PICTURES = [np.full((4, 4, 3), value, np.uint8) for value in (0, 1)]


class Clock:
    """A clock that stands still until someone works; it also keeps who detected, in which picture, on what threads."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, int, int]] = []

    def __call__(self) -> float:
        return self.now


class Worker(Engine):
    """Takes two units of time for a detection, and one for the network."""

    def __init__(self, name: str, clock: Clock, unit: float, breaks_after: float = np.inf) -> None:
        self.name, self.clock, self.unit, self.left = name, clock, unit, breaks_after

    def prepare(self, picture: Any) -> Any:
        return picture

    def forward(self, prepared: Any) -> Any:
        self.clock.now += self.unit

    def detect(self, picture: Any) -> int:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no\nmore")
        self.clock.now += 2 * self.unit
        self.clock.log.append((self.name, int(picture.max()), cv2.getNumThreads()))
        return int(picture.max())


def run(rounds: int, seconds: float, *workers: tuple[Any, ...]) -> tuple[list[Arm], Clock]:
    """Measure an arm for each (name, unit, when it breaks), the first on one thread, the next on two, ..."""
    clock = Clock()
    arms = [
        Arm(made_row(name), threads, Worker(name, clock, *rest)) for threads, (name, *rest) in enumerate(workers, 1)
    ]
    measure(arms, PICTURES, rounds, seconds, lambda text: None, clock)
    return arms, clock


def test_another_one_is_first_each_round_and_all_get_its_picture_and_their_own_threads() -> None:
    arms, clock = run(3, 0, ("a", 0.5), ("b", 0.5), ("c", 0.5))
    turns = [(*"abc",), (*"bca",), (*"cab",)]
    # Each turn begins with a detection that is not timed.
    assert clock.log == [
        (name, picture, "abc".index(name) + 1)
        for order, picture in zip(turns, (0, 1, 0), strict=True)
        for name in order
        for _ in range(2)
    ]
    assert arms[0].detections == [[1000.0]] * 3
    assert arms[0].networks == [[500.0]] * 3
    assert arms[0].found == [0, 1, 0]


def test_the_time_is_shared_out_over_the_rounds_and_repeats_have_an_end() -> None:
    (fast, slow), _ = run(4, 24, ("fast", 0.5), ("slow", 2.0))
    assert [len(one) for one in fast.detections] == [4] * 4  # 6 seconds a turn, 1.5 a repetition
    assert [len(one) for one in slow.detections] == [1] * 4
    (arm,), _ = run(1, 10**9, ("a", 0.5))
    assert len(arm.detections[0]) == MOST_REPEATS


def test_one_that_fails_in_the_middle_is_left_out_and_the_others_go_on() -> None:
    (good, bad), clock = run(3, 0, ("good", 0.5), ("bad", 0.5, 2))
    assert (bad.error, bad.engine, len(bad.detections)) == ("RuntimeError: no more", None, 1)
    assert (good.error, len(good.detections)) == (None, 3)
    assert [name for name, _, _ in clock.log].count("bad") == 2
