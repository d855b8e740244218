"""Which run comes next, and how much is left."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.comparison.arms import TEACHER
from yolo_distill.comparison.runs import Run
from yolo_distill.durations import duration
from yolo_distill.errors import DistillError


class RunQueue:
    """The runs that are to be finished, in order: the teacher first, then seed by seed.

    A run that failed is not tried again by the same call.
    """

    def __init__(self, runs: Sequence[Run], waits_for_teacher: bool, trains_teacher: bool = True) -> None:
        """Take the runs in order, the teacher's among them.

        Args:
            runs: in order.
            waits_for_teacher: whether it has to be trained before it can teach.
            trains_teacher: whether its run is done here; else another shard does it.
        """
        self.runs = list(runs)
        self._waits, self._trains_teacher = waits_for_teacher, trains_teacher
        self._failed: set[Path] = set()
        self._finished: set[Path] = {run.folder for run in self.runs if run.record()}
        self._epoch_seconds: dict[Path, list[float]] = {}

    @property
    def count(self) -> int:
        """How many there are, as they are counted everywhere: without the teacher's."""
        return sum(run.arm.kind != TEACHER for run in self.runs)

    @property
    def done(self) -> int:
        """How many of these are finished."""
        return sum(run.arm.kind != TEACHER and run.folder in self._finished for run in self.runs)

    @property
    def failed(self) -> list[Run]:
        """Those whose attempt in this call failed."""
        return [run for run in self.runs if run.folder in self._failed]

    def add(self, runs: Sequence[Run]) -> None:
        """Add runs, in front of those of later seeds."""
        for run in runs:
            later = [number for number, other in enumerate(self.runs) if other.seed == run.seed]
            self.runs.insert(later[-1] + 1 if later else len(self.runs), run)
            if run.record():
                self._finished.add(run.folder)

    def settle(self, run: Run) -> None:
        """Note that the process of a run has ended."""
        (self._finished if run.record() else self._failed).add(run.folder)

    def next(self, running: Sequence[Run]) -> Run | None:
        """Return a run that can start now, or None.

        Two that train teachers of their own are not done side by side, as they may want the same ones.
        """
        settled = self._finished | self._failed | {run.folder for run in running}
        teacher = self._teacher
        if teacher is not None and not self._trains_teacher:
            settled.add(teacher.folder)
            self._finished |= {teacher.folder} if teacher.record() else set()
        lacks = self._waits and teacher is not None and teacher.folder not in self._finished
        prepares = any(run.prepares for run in running)
        for run in self.runs:
            if run.folder not in settled and not (run.needs_teacher and lacks) and not (run.prepares and prepares):
                return run
        return None

    @property
    def waits(self) -> bool:
        """Whether there are runs that lack nothing but the teacher, which another shard trains.

        Raises:
            DistillError: it failed there.
        """
        teacher = self._teacher
        if self._trains_teacher or not self._waits or teacher is None or teacher.folder in self._finished:
            return False
        if error := teacher.error():
            raise DistillError(f"the shard that trains the teacher failed ({error}; log: {teacher.log}); begin with it")
        return any(run.needs_teacher and run.folder not in self._finished | self._failed for run in self.runs)

    @property
    def _teacher(self) -> Run | None:
        return next((run for run in self.runs if run.arm.kind == TEACHER), None)

    def status(self, running: Sequence[tuple[Run, int]], jobs: int) -> str:
        """Return in one line how far everything is.

        Args:
            running: runs that are being done, with the epochs that each is to have; 0 for one that is only measured.
            jobs: how many are done side by side.
        """
        parts = [f"{self.done} of {self.count} runs done"]
        roughly = "about"
        for run, epochs in running:
            done = len(run.epochs_done())
            if epochs and not done and run.prepares:  # how long that takes is not known
                parts.append(f"{run.name} trains its assistant or tries both starts")
                roughly = "at least"
            else:
                parts.append(f"{run.name} {done}/{epochs} epochs" if epochs else f"{run.name} is being measured")
        left = self._seconds_left({run.folder: epochs for run, epochs in running})
        return ", ".join(parts) + (f", {roughly} {duration(left / jobs)} left" if left is not None else "")

    def _seconds_left(self, running: Mapping[Path, int]) -> float | None:
        """Return an estimate from the epochs that are done, or None before there is one; the teacher's is its own."""
        epochs: dict[str, list[float]] = {}
        for run in self.runs:
            if run.folder in self._finished and run.folder not in self._epoch_seconds:
                self._epoch_seconds[run.folder] = run.epochs_done()
            seconds = self._epoch_seconds.get(run.folder) or (run.epochs_done() if run.folder in running else [])
            epochs.setdefault(run.arm.label, []).extend(seconds)
        means = {label: statistics.fmean(seconds) for label, seconds in epochs.items() if seconds}
        if not means:
            return None
        students = [mean for label, mean in means.items() if label != TEACHER]
        usual = statistics.fmean(students or means.values())
        left = 0.0
        for run in self.runs:
            if run.folder not in self._finished | self._failed:
                own = 0 if run.arm.kind == TEACHER else int(run.arm.host.get("epochs") or DEFAULT_CFG_DICT["epochs"])
                count = running.get(run.folder, own) - len(run.epochs_done())
                left += max(count, 0) * means.get(run.arm.label, usual)
        return left
