"""A benchmark from the request to the report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import cv2

from yolo_distill.benchmark.accuracy import check_measurable, measure_accuracy
from yolo_distill.benchmark.backends import Row, choose_rows
from yolo_distill.benchmark.engine import job_of
from yolo_distill.benchmark.engines import open_engine
from yolo_distill.benchmark.memory import measure_in_process
from yolo_distill.benchmark.models import Model, find_models
from yolo_distill.benchmark.output import check_out
from yolo_distill.benchmark.report import model_figures, notes_of, row_figures
from yolo_distill.benchmark.rounds import Arm, measure
from yolo_distill.benchmark.timing_pictures import TimingPictures, load_pictures
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.machine import machine, usable_cores, versions
from yolo_distill.runtime.progress import Progress

_MOST_THREADS = 1024


@dataclass(frozen=True)
class Request:
    """What was asked for; the attributes are the settings of the command.

    Attributes:
        model: files with commas between.
        data: data set file to measure mAP on.
        split: of `data`.
        source: pictures to time on.
        imgsz: height and width, for models that take any.
        threads: numbers with commas between; None for one and all cores.
        rounds: turns of each measurement.
        seconds: of each measurement, over all rounds.
        conf: scores have to be above.
        device: as the host has it.
        backends: `auto`, or names with commas between.
        out: folder or JSON file for the results.
        trust: open checkpoints without the allow-list.
    """

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
    if request.data is not None:
        check_measurable(models, request.imgsz, request.data)
    pictures = load_pictures(request.data, request.split, request.source, request.rounds)
    for sentence in left_out:
        progress.say(sentence)
    machine_before = machine()  # its load is that of others, not ours

    work = _Work(request, threads, pictures, progress, left_out)
    accuracies = work.accuracies(models)
    processes = work.processes(rows)
    open_rows = [row for row in rows if row in processes]
    arms = work.timed(open_rows) if open_rows else []
    measured = {row: [arm for arm in arms if arm.row is row and arm.error is None and arm.engine] for row in open_rows}
    if not any(measured.values()):
        first = work.failed[0]  # each model has a row that is not optional
        raise DistillError(f"nothing could be measured; {first['name']}: {first['error']}")
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "settings": {**asdict(request), "threads": threads},
        "machine": machine_before,
        "versions": versions(),
        "pictures": {
            "source": pictures.source,
            "count": len(pictures.pictures),
            "sizes": sorted({f"{one.shape[1]}x{one.shape[0]}" for one in pictures.pictures}),
        },
        "models": [model_figures(model, accuracies.get(model.label)) for model in models],
        "rows": [
            row_figures(row, measured[row], measured.get(rows[0], []), processes[row], accuracies.get(row.model.label))
            for row in open_rows
            if measured[row]
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


class _Work:
    """The long parts of a benchmark, with what they leave out and what fails in them."""

    def __init__(
        self, request: Request, threads: list[int], pictures: TimingPictures, progress: Progress, left_out: list[str]
    ) -> None:
        self._request = request
        self._threads = threads
        self._pictures = pictures.pictures
        self._progress = progress
        self.left_out = left_out
        self.failed: list[dict[str, str]] = []

    def accuracies(self, models: Sequence[Model]) -> dict[str, Any]:
        """Return the figures of each model by its label; nothing without `data=`."""
        found: dict[str, Any] = {}
        asked = self._request
        if asked.data is None:
            return found
        for place, model in enumerate(models, 1):
            self._progress.say(f"accuracy of {model.label} on {asked.split} ({place}/{len(models)})")
            try:
                figures = measure_accuracy(model, asked.data, asked.split, asked.imgsz, asked.device, asked.trust)
            except RequestError:
                raise
            except Exception as error:  # the others go on
                self._fail(f"mAP of {model.label}", error)
            else:
                found[model.label] = figures
        return found

    def processes(self, rows: Sequence[Row]) -> dict[Row, dict[str, Any]]:
        """Return memory and time to be ready of each row; those that fail in their process are not in it."""
        found: dict[Row, dict[str, Any]] = {}
        for place, row in enumerate(rows, 1):
            self._progress.say(f"memory of {row.name} ({place}/{len(rows)})")
            try:
                found[row] = measure_in_process(self._job(row, self._threads[0]), self._pictures[0])
            except DistillError as error:
                self._cannot_open(row, error)
        return found

    def timed(self, rows: Sequence[Row]) -> list[Arm]:
        """Return an arm for each row and number of threads, measured or with an error."""
        with _opencv_threads_kept():
            arms = [Arm(row, threads) for row in rows for threads in self._threads]
            for arm in arms:
                self._progress.report(f"opening {arm.name}")
                try:
                    arm.engine = open_engine(self._job(arm.row, arm.threads))
                except Exception as error:  # the others go on
                    arm.error = str(error)
                    self._fail(arm.name, error)
            ready = [arm for arm in arms if arm.engine]
            seconds = len(ready) * self._request.seconds
            self._progress.say(f"{len(ready)} measurements in {self._request.rounds} rounds, about {seconds:.0f} s")
            measure(ready, self._pictures, self._request.rounds, self._request.seconds, self._progress.report)
            self._progress.clear()
        self.failed += [{"name": arm.name, "error": arm.error} for arm in ready if arm.error]
        return arms

    def _job(self, row: Row, threads: int) -> Any:
        return job_of(row.model, row.backend, threads, self._request.device, self._request.conf)

    def _cannot_open(self, row: Row, error: Exception) -> None:
        if row.optional:
            self.left_out.append(f"{row.name} is not in the table: {_one_line(error)}")
            self._progress.say(self.left_out[-1])
        else:
            self._fail(row.name, error)

    def _fail(self, name: str, error: Exception) -> None:
        self.failed.append({"name": name, "error": _one_line(error)})
        self._progress.say(f"{name} failed: {_one_line(error)}")


@contextmanager
def _opencv_threads_kept() -> Iterator[None]:
    before = cv2.getNumThreads()
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
