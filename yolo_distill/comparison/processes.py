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
from yolo_distill.comparison.runs import ERROR, RECORD, Job, Run
from yolo_distill.files import write_bytes

WORKER = (sys.executable, "-m", "yolo_distill.comparison.worker")

_PATIENCE = 10.0  # seconds that a process gets to end when it is asked to


class Processes:
    """Room for a number of runs at a time, each in a process that is called with its job's file.

    They have numbers from 0 on, so that each of several devices gets one run.
    """

    def __init__(self, most: int, command: Sequence[str] = WORKER) -> None:
        self._most, self._command = most, list(command)
        self._running: dict[int, tuple[Run, Job, subprocess.Popen[bytes], IO[bytes]]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        for _, _, process, _ in self._running.values():
            process.terminate()
        for _, _, process, log in self._running.values():
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._running.clear()

    @property
    def free(self) -> int | None:
        """The first number that has no run, or None."""
        return next((number for number in range(self._most) if number not in self._running), None)

    @property
    def running(self) -> list[tuple[Run, Job]]:
        """The runs that are being done, with their jobs."""
        return [(run, job) for run, job, _, _ in self._running.values()]

    @property
    def at_work(self) -> list[tuple[Run, Job]]:
        """The same: all of them have begun."""
        return self.running

    def start(self, number: int, run: Run, job: Job) -> None:
        """Start the job of a run under a free number."""
        file = job.write()
        (run.folder / ERROR).unlink(missing_ok=True)
        process, stream = start_process(self._command, file, run.log, job.threads)
        self._running[number] = run, job, process, stream

    def take_finished(self) -> list[Run]:
        """Return the runs whose process has ended since; one that left no record has an error in its folder then."""
        ended = [number for number, (_, _, process, _) in self._running.items() if process.poll() is not None]
        finished = []
        for number in ended:
            run, _, process, log = self._running.pop(number)
            log.close()
            if process.stdin:
                process.stdin.close()
            if not (run.folder / RECORD).is_file() and not run.error():
                write_bytes(run.folder / ERROR, f"{how_it_ended(process.returncode, run.log)}\n".encode())
            finished.append(run)
        return finished


def start_process(
    command: Sequence[str], file: Path, log: Path, threads: int
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start the process of a job's file, and return it with its open log; it ends with this process."""
    beside = os.pathsep.join([str(Path(yolo_distill.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": beside.rstrip(os.pathsep)}
    stream = log.open("ab")
    # Ctrl-C at a terminal goes to all processes of its session. It is for this one, which then ends the others.
    apart: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    process = subprocess.Popen(
        [*command, str(file)],
        stdin=subprocess.PIPE,  # never written to; it closes when this process ends, however that comes about
        stdout=stream,
        stderr=subprocess.STDOUT,
        env=environment,
        **apart,
    )
    return process, stream


def how_it_ended(code: int, log: Path) -> str:
    """Return how a process ended that left no error of its own."""
    if code < 0:
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        return f"its process was ended by {name}{', perhaps for want of memory' if name == 'SIGKILL' else ''}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
    return f"its process ended with exit code {code}" + (f" ({lines[-1][-200:]})" if lines else "")
