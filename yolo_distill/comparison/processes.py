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
from yolo_distill.comparison.job import ERROR, RECORD, Job
from yolo_distill.files import write_bytes

WORKER = (sys.executable, "-m", "yolo_distill.comparison.worker")

_PATIENCE = 10.0  # seconds that a process gets to end when it is asked to


class Processes:
    """A number of slots, each of which has room for one run."""

    def __init__(self, slots: int, command: Sequence[str] = WORKER) -> None:
        """Make the slots.

        Args:
            slots: how many runs at a time.
            command: what is called with the job's file.
        """
        self._command = list(command)
        self._slots: list[tuple[Job, subprocess.Popen[bytes], IO[bytes]] | None] = [None] * slots

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        running = [slot for slot in self._slots if slot]
        for _, process, _ in running:
            process.terminate()
        for _, process, log in running:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._slots = [None] * len(self._slots)

    @property
    def free(self) -> int | None:
        """The first slot that has room, or None."""
        return next((place for place, slot in enumerate(self._slots) if slot is None), None)

    @property
    def running(self) -> list[Job]:
        """The jobs that are being done."""
        return [slot[0] for slot in self._slots if slot]

    def start(self, slot: int, job: Job, log: Path) -> None:
        """Start a job in a free slot."""
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
        self._slots[slot] = job, process, stream

    def take_finished(self) -> list[Job]:
        """Return the jobs whose process has ended since; one that left no record has an error in its folder then."""
        finished = []
        for place, slot in enumerate(self._slots):
            if slot is None or slot[1].poll() is None:
                continue
            job, process, log = slot
            log.close()
            if process.stdin:
                process.stdin.close()
            self._slots[place] = None
            if not (job.path / RECORD).is_file() and not (job.path / ERROR).is_file():
                said = _ended(process.returncode, Path(log.name))
                write_bytes(job.path / ERROR, f"{said}\n".encode())
            finished.append(job)
        return finished


def _ended(code: int, log: Path) -> str:
    if code < 0:  # it had no time for last words
        known = {int(number): number.name for number in signal.Signals}
        why = ", perhaps for want of memory" if known.get(-code) == "SIGKILL" else ""
        return f"its process was ended by {known.get(-code, f'signal {-code}')}{why}"
    return f"its process ended with exit code {code}{_last_words(log)}"


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f" ({said[-1][-200:]})" if said else ""
