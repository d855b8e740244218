"""Units of work for actors of Ray, each of which keeps its teacher open.

A unit is done whole or not at all, by whoever does it, and its files say so: an actor whose process or node is gone is
begun again by Ray, and does its unit again.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from yolo_distill.cluster import GOES_ON, RETRIES, Cluster, connected, is_lost
from yolo_distill.errors import DistillError, one_line
from yolo_distill.files import is_address
from yolo_distill.labelling.labeller import Labeller
from yolo_distill.labelling.request import Unit
from yolo_distill.labelling.throughput import Throughput
from yolo_distill.runtime.progress import Progress, quiet

_READERS = 2  # threads of an actor that read pictures
_SECONDS = 0.5  # how often it is looked whether the process was interrupted


class _Told(Progress):
    """Keeps what it is to say, for the process that asked."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def report(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.lines.append(text)


class Actor:
    """Does units on a node of a cluster, with a labeller that is opened for the first one."""

    def __init__(self, make: Callable[[Throughput, Progress], Labeller], threads: int) -> None:
        torch.set_num_threads(threads)
        self._make, self._pool = make, ThreadPoolExecutor(_READERS)
        self._throughput, self._told = Throughput(0, 0), _Told()

    @cached_property
    def _labeller(self) -> Labeller:
        return self._make(self._throughput, self._told)

    def do(self, unit: Unit) -> tuple[int, int, list[str], str]:
        """Do a unit; return how much was looked at, how much of it left out as unread, what there is to say, an error.

        An error of ours travels as its text, as Ray would put a traceback in front of it.
        """
        before = self._throughput.done, self._throughput.skipped
        self._told.lines.clear()
        said = ""
        if not any(is_address(file) or Path(file).exists() for file in unit.files):
            said = f"{unit.files[0]} is not on node {socket.gethostname()}; source= has to be there on all nodes"
        else:
            try:
                with quiet():
                    self._labeller.do(unit, self._pool)
            except DistillError as error:
                said = str(error)
        done, skipped = self._throughput.done - before[0], self._throughput.skipped - before[1]
        return done, skipped, self._told.lines, said


def label_by_ray(
    units: Sequence[Unit],
    make: Callable[[Throughput, Progress], Labeller],
    cluster: Cluster,
    throughput: Throughput,
    progress: Progress,
) -> None:
    """Have units done by as many actors as there is room for.

    Args:
        units: in order.
        make: gives an actor its labeller; is called on its node.
        cluster: where.
        throughput: counts what is done.
        progress: says it.

    Raises:
        DistillError: as a labeller does, or a node is not as it has to be; what is done stays done.
    """
    with connected(cluster) as ray:
        options = {**cluster.resources, "max_restarts": -1, "max_task_retries": RETRIES}
        kind = ray.remote(**options)(Actor)
        actors = [kind.remote(make, cluster.threads) for _ in range(min(_room(ray, cluster), len(units)))]
        for unit, answer in _answers(ray, actors, units):
            done, skipped, lines, error = answer
            for line in lines:
                progress.say(line)
            if error:
                raise DistillError(error)
            if unit.video:
                throughput.open_video(done)
            throughput.skipped += skipped
            throughput.step(done)
            progress.report(str(throughput))


def _answers(ray: Any, actors: Sequence[Any], units: Sequence[Unit]) -> Iterator[tuple[Unit, Any]]:
    """Yield each unit as it is done, with what its actor returned; an actor that is free gets the next one."""
    waiting, busy = deque(units), {}
    for actor in actors:
        unit = waiting.popleft()
        busy[actor.do.remote(unit)] = actor, unit
    while busy:
        found = ray.wait(list(busy), timeout=_SECONDS)[0]
        if not found and is_lost(ray):  # no actor would ever be begun again
            raise DistillError(f"Ray's raylet on this machine was killed; {GOES_ON}")
        for ready in found:
            actor, unit = busy.pop(ready)
            try:
                answer = ray.get(ready)
            except ray.exceptions.RayError as error:
                why = f"the process that labelled it was lost again and again ({one_line(error)})"
                raise DistillError(f"{unit.files[0]}: {why}") from error
            if waiting:
                following = waiting.popleft()
                busy[actor.do.remote(following)] = actor, following
            yield unit, answer


def _room(ray: Any, cluster: Cluster) -> int:
    """Return how many actors the cluster has room for; at least one, which waits for a node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    fits = (min(int(node.get(key, 0) / count) for key, count in needs.items() if count) for node in nodes)
    return max(sum(fits), 1)
