"""Who is measured when, with engines that only move a clock."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from made_rows import made_row

from yolo_distill.benchmark.engine import Engine
from yolo_distill.benchmark.rounds import MOST_REPEATS, Arm, measure

PICTURES = [np.full((4, 4, 3), value, np.uint8) for value in (0, 1)]


class Clock:
    """A clock that stands still until someone works; it also keeps who worked, on which picture."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, str, int]] = []

    def __call__(self) -> float:
        return self.now


class Worker(Engine):
    """Takes two units of time for a detection, and one for the network."""

    def __init__(self, name: str, clock: Clock, unit: float, breaks_after: int | None = None) -> None:
        self.name, self.clock, self.unit, self.left = name, clock, unit, breaks_after

    def prepare(self, picture: Any) -> Any:
        return picture

    def forward(self, prepared: Any) -> Any:
        self.clock.now += self.unit
        self.clock.log.append((self.name, "network", int(prepared.max())))

    def detect(self, picture: Any) -> int:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("no\nmore")
        self.clock.now += 2 * self.unit
        self.clock.log.append((self.name, "whole", int(picture.max())))
        return int(picture.max())


@pytest.fixture(autouse=True)
def _opencv_threads():
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def run(rounds: int, seconds: float, **workers: tuple[float, int | None]) -> tuple[dict[str, Arm], Clock]:
    clock = Clock()
    arms = {name: Arm(made_row(f"{name}.onnx"), 1, Worker(name, clock, *worker)) for name, worker in workers.items()}
    measure(list(arms.values()), PICTURES, rounds, seconds, lambda text: None, clock)
    return arms, clock


def test_another_one_is_first_each_round_and_all_get_the_picture_of_the_round():
    _, clock = run(3, 0, a=(0.5, None), b=(0.5, None), c=(0.5, None))
    turns = [(name, picture) for name, what, picture in clock.log if what == "whole"][::2]  # one untimed, one timed
    assert turns == [
        *zip("abc", [0] * 3, strict=True),
        *zip("bca", [1] * 3, strict=True),
        *zip("cab", [0] * 3, strict=True),
    ]


def test_times_are_those_of_the_timed_calls_in_milliseconds():
    arms, clock = run(2, 0, a=(0.5, None))
    assert arms["a"].detections == [[1000.0], [1000.0]]
    assert arms["a"].networks == [[500.0], [500.0]]
    assert arms["a"].found == [0, 1]
    assert len(clock.log) == 2 * 4  # each turn begins with a detection and a run of the network that are not timed


def test_the_time_is_shared_out_over_the_rounds():
    arms, _ = run(4, 24, fast=(0.5, None), slow=(2.0, None))
    assert [len(one) for one in arms["fast"].detections] == [4] * 4  # 6 seconds a turn, 1.5 a repetition
    assert [len(one) for one in arms["slow"].detections] == [1] * 4
    assert sum(map(sum, arms["fast"].detections)) / 1000 == 16


def test_repeats_have_an_end():
    arms, _ = run(1, 10**9, a=(0.5, None))
    assert len(arms["a"].detections[0]) == MOST_REPEATS


def test_one_that_fails_in_the_middle_is_left_out_and_the_others_go_on():
    arms, clock = run(3, 0, good=(0.5, None), bad=(0.5, 2))
    assert arms["bad"].error == "RuntimeError: no more"
    assert arms["bad"].engine is None
    assert len(arms["bad"].detections) == 1
    assert arms["good"].error is None
    assert len(arms["good"].detections) == 3
    assert [name for name, _, _ in clock.log].count("bad") == 4


def test_opencv_gets_the_threads_of_the_arm():
    seen = []

    class Asks(Worker):
        def detect(self, picture: Any) -> int:
            seen.append(cv2.getNumThreads())
            return super().detect(picture)

    clock = Clock()
    arms = [Arm(made_row("a.onnx"), threads, Asks("a", clock, 0.5)) for threads in (1, 2)]
    measure(arms, PICTURES, 1, 0, lambda text: None, clock)
    assert seen == [1, 1, 2, 2]
