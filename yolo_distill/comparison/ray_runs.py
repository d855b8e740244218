"""Runs as tasks of Ray, each of which starts the same process as the plain command does, on whatever node has room.

A task whose process, worker or node is gone is begun again by Ray, and goes on from the last epoch in the run's folder,
which all nodes share.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_distill.cluster import GOES_ON, LOCAL, RETRIES, Cluster, connected, reconnect
from yolo_distill.comparison.processes import how_it_ended, start_process
from yolo_distill.comparison.runs import ERROR, LOG, RECORD, Job, Run, read_job
from yolo_distill.errors import DistillError, one_line
from yolo_distill.files import size_of, write_bytes


@contextmanager
def ray_runs(cluster: Cluster, command: Sequence[str]) -> Iterator[RayRuns]:
    """Give room for runs on a cluster of Ray; those that are not finished end with the block."""
    with connected(cluster) as ray:
        yield RayRuns(ray, cluster, command)


class RayRuns:
    """Has the surface of `Processes`, and takes every run at once: Ray lets those wait for which there is no room.

    Without Ray's own process on this machine, the raylet, nothing more begins; what is at work goes on to its end.
    """

    def __init__(self, ray: Any, cluster: Cluster, command: Sequence[str]) -> None:
        """Take the module `ray`, connected, and what is called for each run, with the job's file."""
        self._ray, self._cluster, self._command = ray, cluster, list(command)
        self._lost, self._restarts = False, 0
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
        file = job.write()
        (run.folder / ERROR).unlink(missing_ok=True)
        self._running[self._task.remote(str(file), self._command)] = run, job, size_of(run.log)

    def take_finished(self) -> list[Run]:
        """Return the runs whose task has ended since; one that left no record has an error in its folder then."""
        tasks = list(self._running)
        done = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)[0] if tasks else []
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
            # Listed, not asked for by name: a network's disk remembers for a while that there was none.
            if RECORD not in {path.name for path in run.folder.iterdir()} and not run.error():
                write_bytes(run.folder / ERROR, f"{said}\n".encode())
            finished.append(run)
        if self._lost and not self._running:
            self._restart()
        return finished

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


def do_job(file: str, command: Sequence[str]) -> str:
    """Do the job in a file, on a node, and return how its process ended; one that is killed is begun again."""
    folder, node = Path(file).parent, socket.gethostname()
    if not Path(file).is_file():
        return f"{folder.parent} is not on node {node}; out= has to be a folder that all nodes share, at the same path"
    log, code = folder / LOG, 0
    for _ in range(1 + RETRIES):
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"on node {node}\n")
        process, output = start_process([sys.executable, *command[1:]], Path(file), log, read_job(Path(file)).threads)
        with output:
            code = process.wait()
        if code >= 0:
            break
    return how_it_ended(code, log)
