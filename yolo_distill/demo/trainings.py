"""Trainings in processes of their own: they share the cores, and the host's messages go into log files."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from ultralytics.data import utils as host_data
from ultralytics.models.yolo.detect import DetectionTrainer

from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import DistillError, one_line
from yolo_distill.runtime.progress import Progress

TEACHER, STUDENT = "yolo26s.yaml", "yolo26n.yaml"

#: What each training is: its trainer and its architecture. The plain nano's is the host's own.
TRAINERS = {
    "teacher": (TeacherTrainer, TEACHER),
    "plain": (DetectionTrainer, STUDENT),
    "distilled": (DistillationTrainer, STUDENT),
}

_REPORT_SECONDS = 0.5  # at most this often does a training say where it is within an epoch

# Two trainings share the cores. The one that has them to itself takes no more: threads wait for each other at every
# layer, and small layers on a machine that is used for something else as well then take many times longer.
THREADS = min(max((os.cpu_count() or 1) // 2, 1), 4)

Say = Callable[[str], None]


class Trainings:
    """Trainings in processes of their own, and what they say.

    Attributes:
        seconds: how long each finished one took, by name.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], say: Say, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._out, self._settings, self._say, self._progress = out, settings, say, progress
        self._running: dict[Any, tuple[str, Any, float]] = {}
        self._where: dict[str, str] = {}

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, *error: object) -> None:
        for _, process, _ in self._running.values():
            process.terminate()
        for _, process, _ in self._running.values():
            process.join()

    def start(self, name: str, **more: Any) -> None:
        """Start the training `name` with more settings of its own."""
        # A forked child would inherit torch's thread pool without its threads, and hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        settings = {**self._settings, **more, "project": str(self._out), "name": name}
        process = context.Process(
            target=_train_here, args=(theirs, name, settings, self._log(name)), name=name, daemon=True
        )
        # Ctrl-C is for this process, which then ends the others; they would each print a traceback.
        with _ignoring_interrupts():
            process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        self._running[ours] = (name, process, time.monotonic())

    def wait_for(self, *names: str) -> None:
        """Say how far all trainings are until those named are done.

        Raises:
            DistillError: one of the trainings failed.
        """
        while not set(names) <= self.seconds.keys():
            ready: list[Any] = wait(list(self._running), timeout=1.0)
            for connection in ready:
                try:
                    kind, text = connection.recv()
                except (EOFError, OSError):
                    kind, text = "gone", ""
                self._take(connection, kind, text)
            if self._where:
                self._progress.report("   ".join(f"{name} {where}" for name, where in self._where.items()))

    def _take(self, connection: Any, kind: str, text: str) -> None:
        name, process, began = self._running[connection]
        if kind == "where":
            self._where[name] = text
        elif kind == "epoch":
            self._say(f"  {name:<10} {text}")
        else:
            process.join()
            del self._running[connection]
            connection.close()
            self._where.pop(name, None)
            if kind != "done":
                why = text or f"its process ended with exit code {process.exitcode}"
                raise DistillError(f"training {name} failed: {why}; its log: {self._log(name)}")
            self.seconds[name] = round(time.monotonic() - began, 2)

    def _log(self, name: str) -> Path:
        return self._out / "logs" / f"{name}.log"


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C; a process that is started meanwhile goes on ignoring it."""
    if threading.current_thread() is not threading.main_thread():  # Python lets the main thread alone set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _train_here(connection: Any, name: str, settings: dict[str, Any], log: Path) -> None:
    """Train in this process and tell the other end of `connection` how far it is: `(kind, text)`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited where there is fork and exec, not on Windows
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    host_data.check_font = _no_font
    kind, architecture = TRAINERS[name]
    followed = _Followed(connection)
    try:
        trainer = kind(overrides={**settings, "model": architecture})
        trainer.add_callback("on_train_start", followed.start)
        trainer.add_callback("on_train_batch_end", followed.end_batch)
        trainer.add_callback("on_fit_epoch_end", followed.end_epoch)
        trainer.train()
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", f"{type(error).__name__}: {one_line(error)}"))
    else:
        connection.send(("done", ""))


class _Followed:
    """What a training does as it goes on: it sends how far it is."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sent, self._step, self._epochs = 0.0, 0, 0

    def start(self, trainer: Any) -> None:
        torch.set_num_threads(THREADS)  # the host sets its own number when it selects the device
        for group in trainer.optimizer.param_groups:
            group["fused"] = True  # the same AdamW in one pass; a step of few pictures is half optimizer otherwise

    def end_batch(self, trainer: Any) -> None:
        self._step += 1
        if time.monotonic() - self._sent > _REPORT_SECONDS:
            self._sent = time.monotonic()
            share = self._step / len(trainer.train_loader)
            self._connection.send(("where", f"epoch {trainer.epoch + 1}/{trainer.epochs} {share:4.0%}"))

    def end_epoch(self, trainer: Any) -> None:
        self._step = 0
        if self._epochs == trainer.epochs:  # the host calls once more after the last epoch, for the best one
            return
        self._epochs += 1
        accuracy = 100 * float(trainer.metrics.get("metrics/mAP50-95(B)", 0.0))
        loss = sum(float(value) for value in (trainer.tloss or {}).values())
        text = f"epoch {self._epochs:>2}/{trainer.epochs}   loss {loss:7.3f}   val mAP50-95 {accuracy:5.1f}"
        self._connection.send(("epoch", text))


def weights_of(out: Path, name: str) -> Path:
    """Return where the training `name` leaves its best weights."""
    return out / name / "weights" / "best.pt"


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep the host from fetching a font for plots that are not drawn.

    Relies on: the host looks for the font by `check_font` of `ultralytics.data.utils` while it reads a data set file.
    """
    before = host_data.check_font
    host_data.check_font = _no_font
    try:
        yield
    finally:
        host_data.check_font = before


def _no_font(font: str = "") -> None:
    """Stand in for the host's `check_font`."""
