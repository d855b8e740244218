"""The measurement: in each round every arm in turn, on the same picture, and another one first in the next round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from yolo_distill.benchmarking.backends import Row
from yolo_distill.benchmarking.engines import Engine, use_threads
from yolo_distill.runtime.letterbox import Picture

MOST_REPEATS = 500  # in one turn; more of the same picture says no more


@dataclass
class Arm:
    """A row at a number of threads.

    Attributes:
        row: what is measured.
        threads: threads that it may use.
        engine: the model, opened with that many threads.
        detections: milliseconds of each whole detection, a list a round.
        networks: milliseconds of each run of the bare network, a list a round.
        found: boxes in the picture of each round.
        error: what went wrong, if something did; it is not measured any further then.
    """

    row: Row
    threads: int
    engine: Engine | None = None
    detections: list[list[float]] = field(default_factory=list)
    networks: list[list[float]] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    error: str | None = None

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return f"{self.row.name}, {self.threads} thread{'s' if self.threads != 1 else ''}"


def measure(
    arms: Sequence[Arm],
    pictures: Sequence[Picture],
    rounds: int,
    seconds: float,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Fill in the times of all arms that are open.

    One process measures all of them, so that what else the machine does meets all alike; a turn is short beside that.

    Args:
        arms: those without an engine, or with an error, are left out.
        pictures: one a round, over and over; the same for every arm of the round.
        rounds: how often each arm has its turn.
        seconds: how long each arm is measured, over all rounds.
        report: called with how far it has come.
        clock: tells seconds.
    """
    for number in range(rounds):
        for place in range(len(arms)):
            arm = arms[(number + place) % len(arms)]
            if arm.engine is None:
                continue
            report(f"round {number + 1}/{rounds}: {arm.name}")
            try:
                _turn(arm, arm.engine, pictures[number % len(pictures)], seconds / rounds, clock)
            except Exception as error:  # the others go on
                arm.error = " ".join(f"{type(error).__name__}: {error}".split())
                arm.engine = None


def _turn(arm: Arm, engine: Engine, picture: Picture, seconds: float, clock: Callable[[], float]) -> None:
    use_threads(arm.threads)
    prepared = engine.prepare(picture)
    # Not timed: in the meantime the threads of the arm before come to rest, and the caches hold this one's weights.
    found = engine.detect(picture)
    engine.forward(prepared)
    detections: list[float] = []
    networks: list[float] = []
    gc.collect()
    gc.disable()  # a collection of all that torch keeps takes longer than a detection
    try:
        until = clock() + seconds
        while len(detections) < MOST_REPEATS:
            before = clock()
            engine.detect(picture)
            between = clock()
            engine.forward(prepared)
            after = clock()
            detections.append(1000 * (between - before))
            networks.append(1000 * (after - between))
            if after >= until:
                break
    finally:
        gc.enable()
    arm.found.append(found)
    arm.detections.append(detections)
    arm.networks.append(networks)
