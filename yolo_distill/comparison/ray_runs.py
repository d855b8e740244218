"""Runs as tasks of Ray, each of which starts the same process as the plain command does, on whatever node has room.

A task whose process, worker or node is gone is begun again by Ray, and goes on from the last epoch in the run's folder,
which all nodes share, or at the address of the comparison. There a task works in a folder of its own: it begins with
what is there, and what it does is put there while it goes on.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_distill.address import WEIGHTS, Address, Mirror
from yolo_distill.cluster import GOES_ON, LOCAL, RETRIES, Cluster, connected, reconnect
from yolo_distill.comparison.processes import how_it_ended, start_process
from yolo_distill.comparison.runs import ERROR, JOB, LOG, RECORD, Job, Run
from yolo_distill.errors import DistillError, one_line
from yolo_distill.files import size_of, write_bytes
from yolo_distill.temporary import temporary_folder

_SECONDS = 60.0  # between two times that it is asked what goes on at an address, and that it is tried again


@contextmanager
def ray_runs(cluster: Cluster, command: Sequence[str], mirror: Mirror | None = None) -> Iterator[RayRuns]:
    """Give room for runs on a cluster of Ray; those that are not finished end with the block."""
    with connected(cluster) as ray:
        yield RayRuns(ray, cluster, command, mirror)


class RayRuns:
    """Has the surface of `Processes`, and takes every run at once: Ray lets those wait for which there is no room.

    Without Ray's own process on this machine, the raylet, nothing more begins; what is at work goes on to its end.
    """

    def __init__(self, ray: Any, cluster: Cluster, command: Sequence[str], mirror: Mirror | None = None) -> None:
        """Take the module `ray`, connected, and what is called for each run, with the job's file.

        With a `mirror` the nodes share its address, not its folder.
        """
        self._ray, self._cluster, self._command, self._mirror = ray, cluster, list(command), mirror
        self._lost = self._failed = False
        self._restarts, self._due = 0, 0.0
        self._prepare()
        # By the task's answer to be: the run, its job, and the size of its log before.
        self._running: dict[Any, tuple[Run, Job, int]] = {}

    @property
    def free(self) -> int | None:
        """A number that has no run."""
        return None if self._lost else len(self._running)

    @property
    def running(self) -> list[tuple[Run, Job]]:
        """The runs that Ray has, with their jobs."""
        return [(run, job) for run, job, _ in self._running.values()]

    @property
    def at_work(self) -> list[tuple[Run, Job]]:
        """Those of them that have begun, which write into their log."""
        return [(run, job) for run, job, size in self._running.values() if size_of(run.log) != size]

    def start(self, number: int, run: Run, job: Job) -> None:
        """Give the job of a run to Ray."""
        (run.folder / ERROR).unlink(missing_ok=True)
        address = self._mirror.address.text if self._mirror else None
        if address is None:
            job.write()
        self._running[self._task.remote(job, self._command, address)] = run, job, size_of(run.log)

    def take_finished(self) -> list[Run]:
        """Return the runs whose task has ended since; one that left no record has an error in its folder then."""
        tasks = list(self._running)
        done = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)[0] if tasks else []
        if self._mirror is not None and not self._fetched(self._mirror, done):
            return []
        finished = []
        for task in done:
            run, _, _ = self._running.pop(task)
            try:
                said = self._ray.get(task)
            except self._ray.exceptions.LocalRayletDiedError:
                self._lost = True
                continue
            except self._ray.exceptions.RayError as error:
                said = str(getattr(error, "cause", None) or one_line(error))
            run.folder.mkdir(exist_ok=True)
            # Listed, not asked for by name: a network's disk remembers for a while that there was none.
            if RECORD not in {path.name for path in run.folder.iterdir()} and not run.error():
                write_bytes(run.folder / ERROR, f"{said}\n".encode())
            finished.append(run)
        if self._lost and not self._running:
            self._restart()
        return finished

    def _fetched(self, mirror: Mirror, done: Sequence[Any]) -> bool:
        """Fetch what was put, when it is time; of runs that go on no weights. Return whether that of `done` is here."""
        if (self._failed or not done) and time.monotonic() < self._due:
            return not done
        ended = {self._running[task][0].folder.name for task in done}
        going_on = {run.folder.name for run, _ in self.running} - ended

        def wanted(name: str) -> bool:
            return WEIGHTS not in name or (bool(done) and name.split("/")[0] not in going_on)

        try:
            mirror.fetch({name: info for name, info in mirror.address.find().items() if wanted(name)})
            self._failed = False
        except DistillError as error:
            self._failed = True
            print(f"warning: {error}; it is tried again", file=sys.stderr, flush=True)
        self._due = time.monotonic() + _SECONDS
        return not (done and self._failed)

    def _prepare(self) -> None:
        self._task = self._ray.remote(**self._cluster.resources, max_retries=RETRIES)(do_job)

    def _restart(self) -> None:
        """Start Ray once more on this machine, for the runs that it had not begun.

        Raises:
            DistillError: it was killed again and again, or is part of a cluster.
        """
        self._restarts += 1
        if self._cluster.address != LOCAL or self._restarts > RETRIES:
            raise DistillError(f"ray={self._cluster.address}: its raylet on this machine was killed; {GOES_ON}")
        self._lost = False
        reconnect(self._ray, self._cluster)
        self._prepare()


def do_job(job: Job, command: Sequence[str], address: str | None = None) -> str:
    """Do a job on a node, and return how its process ended; one that is killed is begun again."""
    if address is None:
        if not (job.path / JOB).is_file():
            where = f"{job.path.parent} is not on node {socket.gethostname()}"
            return f"{where}; out= has to be a folder that all nodes share, at the same path, or an address"
        return _do(job, command, lambda at_once: None)
    with temporary_folder() as folder:
        mirror = Mirror(Address(address), folder.resolve())
        there = mirror.address.find()
        own = job.path.name
        others = {name.split("/")[0] for name in there if name.endswith(f"/{JOB}")} - {own}
        mirror.fetch({name: info for name, info in there.items() if name.split("/")[0] not in others})
        job = job.moved(mirror.folder)
        job.write()
        return _do(job, command, lambda at_once: _put(mirror, job.path / LOG, at_once))


def _do(job: Job, command: Sequence[str], keep: Callable[[bool], None]) -> str:
    """Do a job in its folder, where `keep` is called now and then, and at the end with True."""
    log, code = job.path / LOG, 0
    for _ in range(1 + RETRIES):
        _say(log, f"on node {socket.gethostname()}")
        process, output = start_process([sys.executable, *command[1:]], job.path / JOB, log, job.threads)
        with output:
            while True:
                try:
                    code = process.wait(1.0)
                    break
                except subprocess.TimeoutExpired:
                    keep(False)
        if code >= 0:
            break
    said = how_it_ended(code, log)
    keep(True)
    return said


def _put(mirror: Mirror, log: Path, at_once: bool) -> None:
    """Put what a job did, at its end in several attempts: it is nowhere else.

    Raises:
        DistillError: the last attempt failed.
    """
    for attempt in range(1 + RETRIES):
        try:
            return mirror.put(at_once=at_once)
        except DistillError as error:
            _say(log, f"warning: {error}")
            if not at_once:
                return None
            if attempt == RETRIES:
                raise
            time.sleep(_SECONDS)


def _say(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
