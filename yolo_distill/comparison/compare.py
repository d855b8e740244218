"""A whole comparison: check the request, do what is unfinished, and report what came out."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from yolo_distill.address import Mirror
from yolo_distill.comparison.arms import EQUAL_TIME, PLAIN, TEACHER, Arm
from yolo_distill.comparison.budget import arm_timed, decide, decided, equal_time_arm
from yolo_distill.comparison.plan import Plan, earlier_plan, joined, write_plan
from yolo_distill.comparison.processes import WORKER, Processes
from yolo_distill.comparison.ray_runs import RayRuns, ray_runs
from yolo_distill.comparison.report import JSON, PAGE, TABLE, Report, terminal
from yolo_distill.comparison.request import Request, check
from yolo_distill.comparison.results import figure_of, task_of
from yolo_distill.comparison.run_queue import RunQueue
from yolo_distill.comparison.runs import Run, job_of, run_of, teacher_run
from yolo_distill.engine.teacher_quality import NOTHING
from yolo_distill.errors import DistillError
from yolo_distill.files import claim_folder
from yolo_distill.lock import lock
from yolo_distill.models.tasks import metric_of
from yolo_distill.runtime.progress import Progress

_POLL_SECONDS = 0.1
# A comparison takes hours: on a terminal a line that rewrites itself, in a log one a minute.
_SAY_SECONDS, _LOG_SECONDS = 1.0, 60.0
_MOST_NAMED = 3
_OTHER_SHARDS = 60.0  # seconds in which each writes the plan
# Columns that sentences are wrapped at, whatever the terminal has.
_NARROW, _WIDE = 60, 120


def compare(request: Request, worker: Sequence[str] = WORKER) -> dict[str, Any]:
    """Train what is missing, measure, and write comparison.json, table.md and index.html.

    Args:
        request: what is asked for.
        worker: what is called for each run, with the job's file.

    Returns:
        what comparison.json holds.

    Raises:
        RequestError: something in the request is wrong; nothing has been written then.
        DistillError: runs failed; the others are finished and reported.
    """
    request = replace(request, out=request.out.expanduser())
    plan, arms, seeds = check(request)
    out, shard = claim_folder(request.out, reuse=True), request.shard
    busy = f"out={out}: another yolo-distill compare is at work there; wait for it, or give another out="
    if shard.count == 1:
        with lock(out / ".lock", busy):
            write_plan(out, plan)
            return _Comparison(request, plan, arms, seeds).carry_out(worker)
    with lock(out / f".lock-{shard.index}-of-{shard.count}", f"out={out}: another process is at work on shard {shard}"):
        with lock(out / ".lock", busy, patience=_OTHER_SHARDS):  # they begin together; the first one's precision counts
            if (before := earlier_plan(out)) is not None:
                plan = joined(before, plan, out, plan.arms)
            write_plan(out, plan)
        return _Comparison(request, plan, arms, seeds).carry_out(worker)


def fetch(mirror: Mirror) -> None:
    """Fetch what was changed at an address since, before anything is done here, and see that it can be written.

    Raises:
        RequestError: another process is at work in the folder here, whose files it would write over.
        DistillError: it can't be reached.
    """
    mirror.folder.mkdir(parents=True, exist_ok=True)
    busy = f"{mirror.address.said}: another yolo-distill compare is at work in {mirror.folder}; wait for it"
    with lock(mirror.folder / ".lock", busy):
        mirror.address.require_writable()
        mirror.fetch(mirror.address.find())


class _Comparison:
    """One call of the command, for some arms and seeds of its plan, at work in its folder."""

    def __init__(self, request: Request, plan: Plan, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
        self._request, self._plan, self._arms, self._seeds = request, plan, arms, seeds
        self._out = request.out.resolve()  # trainings may be started from other folders
        self._queue = RunQueue(
            [teacher_run(self._out), *self._runs()],
            waits_for_teacher=self._plan.trains_teacher,
            trains_teacher=request.shard.index == 1,
        )
        self._report = Report(self._out, self._plan, self._queue, trust=request.trust)
        self._progress = Progress()
        self._said, self._status = 0.0, ""

    def _runs(self) -> list[Run]:
        """Return the runs of this call, in order."""
        shard = self._request.shard
        if shard.count == 1:
            return [run_of(self._out, arm, seed) for seed in self._seeds for arm in self._arms]
        # Arm by arm: with as many shards as seeds, all arms of a seed are on one machine. What first trains something
        # that others want as well is not done side by side.
        runs = [run_of(self._out, arm, seed) for arm in self._arms for seed in self._seeds]
        alone, apart = ([run for run in runs if run.prepares is prepares] for prepares in (True, False))
        return [run for place, run in enumerate(apart) if shard.holds(place)] + (alone if shard.index == 1 else [])

    def carry_out(self, worker: Sequence[str]) -> dict[str, Any]:
        """Do what is unfinished and report everything."""
        queue, progress = self._queue, self._progress
        self._give_plain_equal_time()
        try:
            if not self._request.merge:
                with self._room(worker) as processes:
                    self._work(processes)
            if self._request.shard.count > 1:
                self._complain()
                print(
                    f"shard {self._request.shard} is done; when all are, the same command with merge=true for shard= "
                    "writes table and page"
                )
                return self._report.summary(measure=False)
            progress.say("measuring cost, looking for the pictures that differ most, writing the page")
            summary = self._report.final(self._request.devices[0])
        except KeyboardInterrupt:
            progress.say(
                f"stopped: {queue.done} of {queue.count} runs are finished; the same command goes on, each "
                "unfinished run from its last epoch"
            )
            raise
        print(f"\n{terminal(summary, min(max(shutil.get_terminal_size().columns, _NARROW), _WIDE))}\n")
        for file in (PAGE, TABLE, JSON):
            print(f"{file}: {self._out / file}")
        self._say_without_equal_time()
        self._complain()
        return summary

    def _room(self, worker: Sequence[str]) -> AbstractContextManager[Processes | RayRuns]:
        """Return what starts the runs."""
        cluster = self._request.cluster
        return ray_runs(cluster, worker, self._request.mirror) if cluster else Processes(self._request.jobs, worker)

    def _work(self, processes: Processes | RayRuns) -> None:
        queue, devices = self._queue, self._request.devices
        self._keep()  # what runs on other machines begin with
        while True:
            for run in processes.take_finished():
                queue.settle(run)
                counted = "" if run.arm.kind == TEACHER else f"[{queue.done}/{queue.count}] "
                self._progress.say(f"{counted}{outcome(run, self._plan)}")
                self._said = 0.0
                self._give_plain_equal_time()
                if self._request.shard.count == 1:
                    self._report.interim()
                self._keep(processes)
            while (number := processes.free) is not None:
                following = queue.next([run for run, _ in processes.running])
                if following is None:
                    break
                device = devices[number % len(devices)]
                asked = {"threads": self._request.threads, "device": device, "trust": self._request.trust}
                processes.start(number, following, job_of(following, self._plan, **asked))
            self._keep(processes, at_once=False)
            if processes.running:
                self._say_status(processes)
            elif not queue.waits:
                return
            else:
                self._say(lambda: "waits for the teacher, which shard 1 trains")
            time.sleep(_POLL_SECONDS)

    def _keep(self, processes: Processes | RayRuns | None = None, *, at_once: bool = True) -> None:
        """Put what changed where `out=` is an address; one that can't be reached now may be in a while.

        Of runs that Ray has, whoever does them puts it.
        """
        if self._request.mirror is not None:
            theirs = [run.folder.name for run, _ in processes.running] if isinstance(processes, RayRuns) else []
            try:
                self._request.mirror.put(but=theirs, at_once=at_once)
            except DistillError as error:
                self._progress.say(f"warning: {error}")

    def _say_status(self, processes: Processes | RayRuns) -> None:
        given = not self._plan.trains_teacher
        running = [(run, 0 if given and job.kind == TEACHER else job.epochs) for run, job in processes.at_work]
        jobs = max(len(running), 1) if self._request.cluster else self._request.jobs
        self._say(lambda: self._queue.status(running, jobs))

    def _say(self, status: Callable[[], str]) -> None:
        """Say how far everything is, now and then: to find out, what every run has written is read."""
        now = time.monotonic()
        if now - self._said >= (_SAY_SECONDS if sys.stderr.isatty() else _LOG_SECONDS):
            self._said, before, self._status = now, self._status, status()
            if sys.stderr.isatty():
                self._progress.report(self._status)
            elif self._status != before:  # a log that says the same for hours hides what it says besides
                self._progress.say(self._status)

    def _give_plain_equal_time(self) -> None:
        """Add the arm that has ours' time, once a seed has both and its epochs can be worked out."""
        if not self._request.equal_time or self._has_equal_time:
            return
        decision = decided(self._out) or self._decide()
        plain = self._plan.arms[PLAIN]
        if decision is not None:
            arm = equal_time_arm(plain, decision)
            if arm.as_it_runs() != plain.as_it_runs():  # else plain has had as much time already
                self._queue.add([run_of(self._out, arm, seed) for seed in self._seeds])

    def _decide(self) -> dict[str, Any] | None:
        """Work out the epochs from the first seed that has both runs; None where none has them yet."""
        ours = arm_timed(self._arms)
        asked, failed = ({run.folder for run in runs} for runs in (self._queue.runs, self._queue.failed))
        for seed in dict.fromkeys([*self._seeds, *self._plan.seeds]) if ours else ():
            pair = [run_of(self._out, self._plan.arms[label], seed) for label in (str(ours), PLAIN)]
            records = [run.record() for run in pair]
            if records[0] and records[1]:
                if (decision := decide(self._out, records[0], records[1])) is not None:
                    return decision
            elif {run.folder for run, record in zip(pair, records, strict=True) if record is None} & (asked - failed):
                return None  # one is still to come; another seed counts only where a run failed, or is not asked for
        return None

    @property
    def _has_equal_time(self) -> bool:
        return EQUAL_TIME in {run.arm.label for run in self._queue.runs}

    def _say_without_equal_time(self) -> None:
        if not self._request.equal_time or self._has_equal_time:
            return
        if decision := decided(self._out):
            self._progress.say(
                f"budget=equal-time: an epoch of {decision['arm']} took {decision['ratio']:.2f} times as long as one "
                "of plain, so plain has had as much time already"
            )
        else:
            self._progress.say(
                "budget=equal-time: plain was given nothing, as no seed has runs of it and of ours that were timed on "
                "the same machine, with as many threads"
            )

    def _complain(self) -> None:
        """Raise an error that names the runs that failed, if there are any."""
        queue = self._queue
        failed = [f"{run.name} ({run.error()})" for run in queue.failed]
        students = sum(run.arm.kind != TEACHER for run in queue.failed)
        waiting = queue.count - queue.done - students
        if not failed:
            return
        count = f"{students} of {queue.count} runs" if students else "the run of the teacher"
        more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        idle = f"; {waiting} that need it were not begun" if waiting else ""
        raise DistillError(
            f"{count} failed: {'; '.join(failed[:_MOST_NAMED])}{more}{idle}; "
            f"logs are in their folders under {self._request.out}; the same command tries them again and keeps the rest"
        )


def outcome(run: Run, plan: Plan) -> str:
    """Return in one line what became of a run."""
    record = run.record()
    if record is None:
        return f"{run.name} failed: {run.error()} (log: {run.log})"
    values = {split: figure_of(record, split, "mAP50-95", "one-to-many") for split in reversed(plan.splits)}
    figures = [f"{value:.1f} on {split}" for split, value in values.items() if value is not None]
    spent = f", trained {record['train_seconds'] / 60:.1f} min" if record["train_seconds"] else ""
    said = f"{metric_of(task_of(record, plan))} {', '.join(figures)}" if figures else "not measured"
    on_val = values.get("val")
    if run.arm.kind == TEACHER and on_val is not None and on_val < 100 * NOTHING:
        spent += (
            "; it finds next to nothing, and nobody can learn more from it: train it longer (teacher_epochs=), or look "
            "at imgsz= and at the classes' names"
        )
    return f"{run.name}: {said}{spent}"
