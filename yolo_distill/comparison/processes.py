"""Runs in processes of their own, side by side; they end with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yolo_distill
from yolo_distill.comparison.runs import ERROR, RECORD, Job
from yolo_distill.files import write_bytes

WORKER = (sys.executable, "-m", "yolo_distill.comparison.worker")

_PATIENCE = 10.0  # seconds that a process gets to end when it is asked to


class Processes:
    """Room for a number of runs at a time, each in a process that is called with its job's file."""

    def __init__(self, most: int, command: Sequence[str] = WORKER) -> None:
        self._command = list(command)
        # By number, so that each of several devices has one run.
        self._all: list[tuple[Job, subprocess.Popen[bytes], IO[bytes]] | None] = [None] * most

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        running = [one for one in self._all if one]
        for _, process, _ in running:
            process.terminate()
        for _, process, log in running:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._all = [None] * len(self._all)

    @property
    def free(self) -> int | None:
        """The first number that has no run, or None."""
        return next((number for number, one in enumerate(self._all) if one is None), None)

    @property
    def running(self) -> list[Job]:
        """The jobs that are being done."""
        return [one[0] for one in self._all if one]

    def start(self, number: int, job: Job, log: Path) -> None:
        """Start a job under a free number."""
        file = job.write()
        (job.path / ERROR).unlink(missing_ok=True)
        beside = os.pathsep.join([str(Path(yolo_distill.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads), "PYTHONPATH": beside.rstrip(os.pathsep)}
        stream = log.open("ab")
        # Ctrl-C at a terminal goes to all processes of its session. It is for this one, which then ends the others.
        apart: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            apart = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        process = subprocess.Popen(
            [*self._command, str(file)],
            stdin=subprocess.PIPE,  # never written to; it closes when this process ends, however that comes about
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            **apart,
        )
        self._all[number] = job, process, stream

    def take_finished(self) -> list[Job]:
        """Return the jobs whose process has ended since; one that left no record has an error in its folder then."""
        finished = []
        for number, one in enumerate(self._all):
            if one is None or one[1].poll() is None:
                continue
            job, process, log = one
            log.close()
            if process.stdin:
                process.stdin.close()
            self._all[number] = None
            if not (job.path / RECORD).is_file() and not (job.path / ERROR).is_file():
                why = _ended(process.returncode, Path(log.name))
                write_bytes(job.path / ERROR, f"{why}\n".encode())
            finished.append(job)
        return finished


def _ended(code: int, log: Path) -> str:
    """Return how a process ended that left no error of its own."""
    if code < 0:
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        return f"its process was ended by {name}{', perhaps for want of memory' if name == 'SIGKILL' else ''}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
    return f"its process ended with exit code {code}" + (f" ({lines[-1][-200:]})" if lines else "")
