"""A benchmark from the request to the report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2

from yolo_distill.benchmarking.backends import Row, choose_rows
from yolo_distill.benchmarking.engines import Job, open_engine
from yolo_distill.benchmarking.memory import measure_in_process
from yolo_distill.benchmarking.models import FOLDERS, Model, find_models
from yolo_distill.benchmarking.output import check_out
from yolo_distill.benchmarking.report import model_figures, notes_of, row_figures
from yolo_distill.benchmarking.rounds import Arm, measure
from yolo_distill.benchmarking.timing_pictures import load_pictures
from yolo_distill.errors import DistillError, RequestError, importing_for
from yolo_distill.machine import machine, usable_cores, versions
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import Progress

_MOST_THREADS = 1024
_ACCURACY = ("map", "map50", "precision", "recall", "pictures", "boxes", "split", "imgsz")


@dataclass(frozen=True)
class Request:
    """What was asked for: the settings of the command, which says what they are; `imgsz` is height and width."""

    model: str
    data: str | None = None
    split: str = "val"
    source: str | None = None
    imgsz: tuple[int, int] | None = None
    threads: str | None = None
    rounds: int = 20
    seconds: float = 5.0
    conf: float = 0.25
    device: str = "cpu"
    backends: str = "auto"
    out: str = "runs/benchmark"
    trust: bool = False


def benchmark(request: Request, progress: Progress) -> dict[str, Any]:
    """Measure, and return the report; nothing is written.

    Returns:
        `date`, `settings`, `machine`, `versions`, `pictures`, `models`, `rows`, `left_out`, `failed` and `notes`.

    Raises:
        RequestError: something in the request has to change.
        DistillError: nothing could be measured.
    """
    threads = read_threads(request.threads)
    check_out(request.out)
    models = find_models(request.model, request.imgsz, request.trust)
    rows, left_out = choose_rows(models, request.backends, request.device)
    _check_measurable(models, request)
    pictures, source = load_pictures(request.data, request.split, request.source, request.rounds)
    for sentence in left_out:
        progress.say(sentence)
    machine_before = machine()  # its load is that of others, not ours

    work = _Work(request, threads, pictures, progress, left_out)
    accuracies = work.accuracies(models)
    processes = work.processes(rows)
    arms = work.timed(list(processes)) if processes else []
    measured = {row: [arm for arm in arms if arm.row is row and arm.error is None] for row in processes}
    if not any(measured.values()):
        first = work.failed[0]  # each model has a row that is not optional
        raise DistillError(f"nothing could be measured; {first['name']}: {first['error']}")
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "settings": {**asdict(request), "threads": threads},
        "machine": machine_before,
        "versions": versions(),
        "pictures": {
            "source": source,
            "count": len(pictures),
            "sizes": sorted({f"{one.shape[1]}x{one.shape[0]}" for one in pictures}),
        },
        "models": [model_figures(model, accuracies.get(model.label)) for model in models],
        "rows": [
            row_figures(row, whole, measured.get(rows[0], []), processes[row], accuracies.get(row.model.label))
            for row, whole in measured.items()
            if whole
        ],
        "left_out": work.left_out,
        "failed": work.failed,
    }
    return {**report, "notes": notes_of(report)}


def read_threads(text: str | None) -> list[int]:
    """Return the numbers of threads in "1,2"; one and all cores if nothing is said.

    Raises:
        RequestError: they are no such numbers.
    """
    if text is None:
        return sorted({1, usable_cores()})
    words = [word.strip() for word in text.strip("[]() ").split(",") if word.strip()]
    good = [int(word) for word in words if word.isdecimal() and 1 <= int(word) <= _MOST_THREADS]
    if not words or len(good) != len(words):
        raise RequestError(f"threads={text}: expected numbers from 1 to {_MOST_THREADS} with commas between, as 1,2")
    return list(dict.fromkeys(good))


def _check_measurable(models: Sequence[Model], request: Request) -> None:
    """Check, before the work, that accuracy can be measured where it is asked for."""
    if request.data is None:
        return
    with importing_for(f"data={request.data}", torch=False):
        import yolo_distill.evaluation.evaluate  # noqa: F401
        from yolo_distill.data.dataset import check_data
        from yolo_distill.data.label_tasks import require_labels_of
        from yolo_distill.models.imgsz import require_channels
    size = request.imgsz
    if size and size[0] != size[1] and any(model.free_size for model in models):
        raise RequestError(f"imgsz={size[0]},{size[1]}: with data= only squares are measured; give one side")
    found = check_data(request.data, request.split)
    require_channels(3, found, "benchmark")
    for task in dict.fromkeys(model.task for model in models if model.kind not in FOLDERS):
        require_labels_of(task, found, request.split, f"data={request.data}")


@dataclass
class _Work:
    """The long parts of a benchmark, with what they leave out and what fails in them."""

    request: Request
    threads: list[int]
    pictures: list[Picture]
    progress: Progress
    left_out: list[str]
    failed: list[dict[str, str]] = field(default_factory=list)

    def accuracies(self, models: Sequence[Model]) -> dict[str, Any]:
        """Return what `evaluate` measures of each model by its label; None of a folder, which it does not take."""
        found: dict[str, Any] = {}
        asked = self.request
        if asked.data is None:
            return found
        from yolo_distill.evaluation.evaluate import evaluate, in_points

        for place, model in enumerate(models, 1):
            self.progress.say(f"accuracy of {model.label} on {asked.split} ({place}/{len(models)})")
            if model.kind in FOLDERS:
                found[model.label] = None
                continue
            size = asked.imgsz[0] if asked.imgsz and model.free_size else None
            same: dict[str, Any] = {"split": asked.split, "imgsz": size, "device": asked.device, "trust": asked.trust}
            try:
                figures = in_points(evaluate(model.path, asked.data, **same))
            except RequestError:  # such as other classes than the data's
                raise
            except Exception as error:  # the others go on
                self._fail(f"mAP of {model.label}", error)
            else:
                found[model.label] = {key: figures[key] for key in _ACCURACY}
        return found

    def processes(self, rows: Sequence[Row]) -> dict[Row, dict[str, Any]]:
        """Return memory and time to be ready of each row; those that fail in their process are not in it."""
        found: dict[Row, dict[str, Any]] = {}
        for place, row in enumerate(rows, 1):
            self.progress.say(f"memory of {row.name} ({place}/{len(rows)})")
            try:
                found[row] = measure_in_process(self._job(row, self.threads[0]), self.pictures[0])
            except DistillError as error:
                if row.optional:
                    self.left_out.append(f"{row.name} is not in the table: {_one_line(error)}")
                    self.progress.say(self.left_out[-1])
                else:
                    self._fail(row.name, error)
        return found

    def timed(self, rows: Sequence[Row]) -> list[Arm]:
        """Return an arm for each row and number of threads, measured or with an error."""
        with _opencv_threads_kept():
            arms = [Arm(row, threads) for row in rows for threads in self.threads]
            for arm in arms:
                self.progress.report(f"opening {arm.name}")
                try:
                    arm.engine = open_engine(self._job(arm.row, arm.threads))
                except Exception as error:  # the others go on
                    arm.error = str(error)
                    self._fail(arm.name, error)
            ready = [arm for arm in arms if arm.engine]
            seconds = len(ready) * self.request.seconds
            self.progress.say(f"{len(ready)} measurements in {self.request.rounds} rounds, about {seconds:.0f} s")
            measure(ready, self.pictures, self.request.rounds, self.request.seconds, self.progress.report)
            self.progress.clear()
        self.failed += [{"name": arm.name, "error": arm.error} for arm in ready if arm.error]
        return arms

    def _job(self, row: Row, threads: int) -> Job:
        return Job(row.model, row.backend, threads, self.request.device, self.request.conf)

    def _fail(self, name: str, error: Exception) -> None:
        self.failed.append({"name": name, "error": _one_line(error)})
        self.progress.say(f"{name} failed: {_one_line(error)}")


@contextmanager
def _opencv_threads_kept() -> Iterator[None]:
    before = cv2.getNumThreads()
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
