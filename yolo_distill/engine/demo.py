"""The whole story on drawn scenes: teacher, plain nano, distilled nano, proved file, pictures and a table.

The trainings run in processes of their own, for two reasons: the teacher and the plain nano need nothing of each
other and so share the cores, and the host's messages go into log files while this process says how far they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import platform
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics import __version__ as host_version
from ultralytics.data import utils as host_data
from ultralytics.models.yolo.detect import DetectionTrainer

from yolo_distill import __version__
from yolo_distill.engine.checkpoint import one_line
from yolo_distill.engine.evaluate import cost, evaluate, side_by_side
from yolo_distill.engine.export import export
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import DistillError
from yolo_distill.files import write_bytes
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.drawing import draw
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.sources import read_picture
from yolo_distill.runtime.writers import write_picture
from yolo_distill.scenes import make_data

TEACHER, STUDENT = "yolo26s.yaml", "yolo26n.yaml"

#: What each training is: its trainer and its architecture. The plain nano's is the host's own.
_TRAINERS = {
    "teacher": (TeacherTrainer, TEACHER),
    "plain": (DetectionTrainer, STUDENT),
    "distilled": (DistillationTrainer, STUDENT),
}

_ENLARGED = 3  # annotated pictures are this much larger than the drawn ones, so that names can be read
_SHEET = (3, 6)  # rows and columns of the contact sheet
_TELL_SECONDS = 0.5  # at most this often does a training say where it is within an epoch

# Two trainings share the cores. The one that has them to itself takes no more: threads wait for each other at every
# layer, and small layers on a machine that is used for something else as well then take many times longer.
_THREADS = min(max((os.cpu_count() or 1) // 2, 1), 4)

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much a demo does.

    Attributes:
        pictures: how many of each split.
        imgsz: side of the pictures in pixels.
        epochs: of each training.
        batch: pictures of a step.
    """

    pictures: Mapping[str, int]
    imgsz: int
    epochs: int
    batch: int


FULL = Scale({"train": 640, "val": 64, "test": 200}, 96, 4, 8)
QUICK = Scale({"train": 16, "val": 8, "test": 8}, 64, 1, 8)


def host_settings(scale: Scale, data: Path, seed: int) -> dict[str, Any]:
    """Return the host's settings, the same for all three trainings."""
    return {
        "data": str(data),
        "imgsz": scale.imgsz,
        "epochs": scale.epochs,
        "batch": scale.batch,
        "seed": seed,
        # A few hundred steps have to be enough: one step a batch, no long warm-up, and biases that catch up early.
        "nbs": scale.batch,
        "optimizer": "AdamW",
        "lr0": 0.002,
        "momentum": 0.9,
        "warmup_epochs": 1.0,
        "warmup_bias_lr": 0.02,
        # Scenes are drawn in any number, so there is no need to make more of few.
        "mosaic": 0.0,
        "close_mosaic": 0,
        "scale": 0.2,
        "cache": "ram",
        "device": "cpu",
        "workers": 0,
        "amp": False,
        "plots": False,
        "exist_ok": True,
    }


def demo(out: Path, *, seed: int = 0, quick: bool = False) -> dict[str, Any]:
    """Run the demo, print what happens and write everything under `out`.

    Args:
        out: a folder that exists and may be written into.
        seed: of the scenes and of the trainings.
        quick: a few steps only; the figures mean nothing then.

    Returns:
        what `demo.json` holds.

    Raises:
        DistillError: a training, the export or a measurement failed.
    """
    started = time.monotonic()
    progress = Progress(sys.stdout)

    def say(text: str) -> None:
        progress.say(f"[{time.monotonic() - started:4.0f} s] {text}")

    scale = QUICK if quick else FULL
    with _offline():
        counts = ", ".join(f"{count} {split}" for split, count in scale.pictures.items())
        say(f"drawing scenes, seed {seed}: {counts}, {scale.imgsz} x {scale.imgsz} px")
        data = make_data(out / "data", scale.pictures, seed=seed, size=scale.imgsz)
        weights, seconds = _train(out, host_settings(scale, data, seed), say, progress)
        say("exporting the distilled nano, and running the file beside torch on the val pictures")
        report = export(weights["distilled"], data=data, out=out / "distilled.onnx")
        for line in report.summary().splitlines()[:-1]:
            say(f"  {line.removeprefix(f'{out}/')}")
        say("predicting on the test pictures with the exported file, without torch")
        found, ms = _predict(Detector(report.path, threads=_THREADS), out)
        say(f"  {found} objects found")
        say("measuring on the test pictures")
        torch.set_num_threads(_THREADS)  # as many as the file just had
        costs = {name: cost(file, scale.imgsz) for name, file in weights.items()}
        rows = {name: {**evaluate(file, data, split="test"), **costs[name]} for name, file in weights.items()}
        rows["distilled.onnx"] = {
            **costs["distilled"],
            **evaluate(report.path, data, split="test"),
            "file_bytes": report.file_bytes,
            "ms": ms,
        }
    total = time.monotonic() - started
    result = {
        "finished": True,
        "seed": seed,
        "quick": quick,
        "split": "test",
        "scale": dataclasses.asdict(scale),
        "rows": {name: _plain(row, out) for name, row in rows.items()},
        "distilled_minus_plain": rows["distilled"]["map"] - rows["plain"]["map"],
        "seconds": {**seconds, "total": total},
        "cores": os.cpu_count(),
        "threads": _THREADS,
        "versions": {
            "yolo_distill": __version__,
            "ultralytics": host_version,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    write_bytes(out / "demo.json", (json.dumps(result, indent=2) + "\n").encode())
    print(f"\nOn {scale.pictures['test']} test pictures, each timed on {_THREADS} thread(s):\n")
    print(f"{side_by_side(rows)}\n\n{verdict(rows, quick)}\n\n{_places(out)}\n\nDone in {total:.0f} s.")
    return result


def verdict(rows: Mapping[str, Mapping[str, Any]], quick: bool) -> str:
    """Return in words what the table says, and what it does not."""
    if quick:
        return "quick=true trains for a few steps only: everything ran, but these figures mean nothing."
    ahead = 100 * (rows["distilled"]["map"] - rows["plain"]["map"])
    if ahead > 0:
        first = f"The distilled nano is {ahead:.1f} mAP50-95 ahead of the plain one (same data, same epochs)."
    else:
        first = f"The distilled nano is NOT ahead of the plain one with this seed ({ahead:+.1f} mAP50-95)."
    return (
        f"{first}\nIt also had the teacher, whose training is not counted. One seed on drawn scenes proves nothing: "
        "try seed=1 and seed=2,\nand see the README for paired seeds on real pictures."
    )


def _train(
    out: Path, settings: dict[str, Any], say: Say, progress: Progress
) -> tuple[dict[str, Path], dict[str, float]]:
    """Train the three; return their weights and how many seconds each took."""
    say(f"training teacher ({TEACHER}) and plain nano ({STUDENT}) side by side, epochs: {settings['epochs']}")
    with _Trainings(out, settings, say, progress) as trainings:
        trainings.start("teacher")
        trainings.start("plain")
        trainings.wait_for("teacher")
        say(f"training the distilled nano ({STUDENT}) with the teacher, the same data, epochs and seed")
        trainings.start("distilled", teacher=str(_weights(out, "teacher")))
        trainings.wait_for("plain", "distilled")
    return {name: _weights(out, name) for name in _TRAINERS}, trainings.seconds


class _Trainings:
    """Trainings in processes of their own, and what they say.

    Attributes:
        seconds: how long each finished one took, by name.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], say: Say, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._out = out
        self._settings = settings
        self._say = say
        self._progress = progress
        self._running: dict[Any, tuple[str, Any, float]] = {}
        self._where: dict[str, str] = {}

    def __enter__(self) -> _Trainings:
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
            return
        if kind == "epoch":
            self._say(f"  {name:<10} {text}")
            return
        process.join()
        del self._running[connection]
        connection.close()
        self._where.pop(name, None)
        if kind != "done":
            said = text or f"its process ended with exit code {process.exitcode}"
            raise DistillError(f"training {name} failed: {said}; its log: {self._log(name)}")
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
    said, step, told = 0.0, 0, 0

    def begin(trainer: Any) -> None:
        torch.set_num_threads(_THREADS)  # the host sets its own number when it selects the device
        for group in trainer.optimizer.param_groups:
            group["fused"] = True  # the same AdamW in one pass; a step of few pictures is half optimizer otherwise

    def batch(trainer: Any) -> None:
        nonlocal said, step
        step += 1
        if time.monotonic() - said > _TELL_SECONDS:
            said = time.monotonic()
            share = step / len(trainer.train_loader)
            connection.send(("where", f"epoch {trainer.epoch + 1}/{trainer.epochs} {share:4.0%}"))

    def epoch(trainer: Any) -> None:
        nonlocal step, told
        step = 0
        if told < trainer.epochs:  # the host calls once more after the last epoch, for the best one
            told += 1
            accuracy = 100 * float(trainer.metrics.get("metrics/mAP50-95(B)", 0.0))
            loss = sum(float(value) for value in (trainer.tloss or {}).values())
            connection.send(
                ("epoch", f"epoch {told:>2}/{trainer.epochs}   loss {loss:7.3f}   val mAP50-95 {accuracy:5.1f}")
            )

    kind, architecture = _TRAINERS[name]
    try:
        trainer = kind(overrides={**settings, "model": architecture})
        trainer.add_callback("on_train_start", begin)
        trainer.add_callback("on_train_batch_end", batch)
        trainer.add_callback("on_fit_epoch_end", epoch)
        trainer.train()
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", f"{type(error).__name__}: {one_line(error)}"))
    else:
        connection.send(("done", ""))


def _predict(detector: Detector, out: Path) -> tuple[int, float]:
    """Write every test picture with what was found, and a sheet of the first ones.

    Returns:
        the number of objects found, and the median time of the network in milliseconds.
    """
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    found, times, sheet = 0, [], []
    for file in sorted((out / "data" / "images" / "test").glob("*.jpg")):
        picture = read_picture(str(file))
        if picture is None:
            raise DistillError(f"{file}: cannot be decoded any more; was it changed while the demo ran?")
        tensor, transform = detector.preprocess(picture)
        before = time.perf_counter()
        raw = detector.infer(tensor)
        times.append(1000 * (time.perf_counter() - before))
        detections = detector.postprocess(raw, [transform])[0]
        found += len(detections)
        annotated = draw(*_enlarge(picture, detections))
        write_picture(folder / file.name, annotated)
        sheet.append(annotated)
    write_picture(out / "contact-sheet.jpg", contact_sheet(sheet, *_SHEET))
    return found, round(statistics.median(times), 3)


def contact_sheet(pictures: Sequence[Picture], rows: int, columns: int) -> Picture:
    """Return the first `rows * columns` pictures of one size side by side; empty places are black."""
    shown = list(pictures[: rows * columns])
    shown += [np.zeros_like(shown[0])] * (-len(shown) % columns)
    lines = [np.hstack(shown[start : start + columns]) for start in range(0, len(shown), columns)]
    return np.vstack(lines)


def _enlarge(picture: Picture, found: Detections) -> tuple[Picture, Detections]:
    size = (_ENLARGED * picture.shape[1], _ENLARGED * picture.shape[0])
    larger: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return larger, dataclasses.replace(found, xyxy=_ENLARGED * found.xyxy)


def _weights(out: Path, name: str) -> Path:
    return out / name / "weights" / "best.pt"


def _plain(row: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Return a row for `demo.json`, with paths relative to its folder."""
    return {**row, **{key: os.path.relpath(row[key], out) for key in ("model", "data")}}


def _places(out: Path) -> str:
    places = {
        "contact sheet": out / "contact-sheet.jpg",
        "pictures": out / "pictures",
        "exported nano": out / "distilled.onnx",
        "its proof": out / "distilled.json",
        "checkpoints": out / "*" / "weights" / "best.pt",
        "data set": out / "data" / "data.yaml",
        "figures": out / "demo.json",
        "the host's logs": out / "logs",
    }
    lines = [f"  {name:<16} {place}" for name, place in places.items()]
    return "\n".join(
        [
            "Where everything is:",
            *lines,
            "",
            "Next, on your own:",
            f"  yolo-distill webcam model={out / 'distilled.onnx'}     (hold a drawn disc or star into the camera)",
            "  yolo-distill train teacher=yolo26s.pt student=yolo26n.pt data=your/data.yaml",
        ]
    )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
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
