"""Chooses a run's student by a deadline: candidates are timed untrained, those that meet it compared by their starts.

What a network computes does not decide how long it takes, so that a file of random weights promises the time of the
file that the trained student will be exported to.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.comparison.candidate_times import time_candidates
from yolo_distill.comparison.candidates import Candidate, Deadline, candidate_of, smaller_networks
from yolo_distill.distillation.terms import require_classes
from yolo_distill.engine.request_checks import require_learnable, require_teachable
from yolo_distill.engine.run import may_start_inside
from yolo_distill.engine.run_folder import runs_folder
from yolo_distill.engine.summary import measured_by
from yolo_distill.engine.teacher_setup import require_known_classes
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.files import write_bytes
from yolo_distill.initialization.initialize import PREFIX, begin_inside
from yolo_distill.machine import cpu_name
from yolo_distill.models.imgsz import longest_side, require_side
from yolo_distill.models.sizes import write_plan
from yolo_distill.recipe import Recipe
from yolo_distill.tables import NO_VALUE, Table
from yolo_distill.teachers.loading import Teachers

#: What was measured and taken; beside the candidates, and in the folder of the run.
JSON = "latency.json"
_FOLDER = "candidates"


class Choice:
    """The choice of a run's student, which is made when its request has been checked."""

    def __init__(self, asked: Deadline) -> None:
        self._asked = asked
        self._report: dict[str, Any] = {}

    def __call__(self, recipe: Recipe, settings: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, int]:
        """Return the student, an architecture beside the candidates, and the side of its pictures, and say why.

        Args:
            recipe: of the run.
            settings: Ultralytics' of the run.
            data: as `check_data` returns it.

        Raises:
            RequestError: nothing meets the deadline, or something else in the request has to change.
        """
        asked = self._asked
        teachers = Teachers.of(recipe)
        teacher = _teacher(asked, recipe, teachers)
        sides = list(dict.fromkeys(asked.sides)) or [settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"])]
        for side in sides:
            require_side(longest_side([side]), teacher)
            require_teachable(recipe, {**settings, "imgsz": side})
        folder = runs_folder(settings) / _FOLDER
        models = smaller_networks(teacher, asked, data["names"])
        # Before minutes of exporting and timing, not behind them.
        for task, name in {model.task: name for name, model in models.items()}.items():
            require_learnable(task, name, settings.get("task"), recipe, data)
        require_classes(recipe, len(data["names"]))
        require_known_classes(recipe, teachers, data["names"], settings)
        found = [candidate_of(name, model, side, asked.precision) for side in sides for name, model in models.items()]
        doubt = time_candidates(found, models, asked, folder, data)
        meeting = [one for one in found if one.ms <= asked.latency]
        if not meeting:
            raise RequestError(_too_slow(found, asked))
        for one in meeting if asked.students else _largest(meeting, models):
            if may_start_inside(recipe, one.student, settings):
                LOGGER.info(f"{PREFIX}the start of {one.name}, {one.ms:.1f} ms: fitted, and measured on val")
                one.map = _start(models[one.student], teacher, recipe, one.imgsz, settings, data)
        # Where no start is fitted, the most that there is time for.
        taken = max(meeting, key=lambda one: (-1.0 if one.map is None else one.map, one.ms))
        _say(found, taken, asked, doubt)
        self._report = {
            **asdict(asked),
            "data": settings["data"],
            "processor": None if asked.latency_on else cpu_name(),
            "doubt": doubt,
            "taken": asdict(taken),
            "candidates": [asdict(one) for one in found],
        }
        student = write_plan(models[taken.student].yaml, folder)
        self._write(folder)  # a run that is interrupted has none of its own
        return student, taken.imgsz

    def keep(self, folder: Path) -> None:
        """Write `latency.json` into the folder of the finished run, and say how to export what was promised."""
        self._write(folder)
        taken, best = self._report["taken"], folder / "weights" / "best.pt"
        LOGGER.info(
            f"Promised: {taken['ms']:.1f} ms a picture ({self._asked.how}) of\n         yolo-distill export "
            f"model={best} data={self._report['data']} precision={self._asked.precision}"
        )

    def _write(self, folder: Path) -> None:
        write_bytes(folder / JSON, (json.dumps(self._report, indent=1) + "\n").encode())


def _teacher(asked: Deadline, recipe: Recipe, teachers: Teachers) -> DetectionModel:
    """Return the teacher, which has to be one YOLO that has weights."""
    said = f"latency={asked.latency:g}: "
    if teachers.trained_first:
        raise RequestError(f"{said}teacher={recipe.teacher} is yet to be trained; do that, and give its best.pt")
    if not teachers.is_one_yolo:
        raise RequestError(f"{said}teacher={recipe.teacher} is not one YOLO, inside which candidates could start")
    return teachers.model(teachers.members[0])


def _largest(meeting: Sequence[Candidate], models: Mapping[str, DetectionModel]) -> Iterator[Candidate]:
    """Yield, of each side, the largest; and where that has a cheaper activation, the largest with the teacher's own.

    Of one architecture the narrower starts no better; of one width a cheaper activation ends 1.5 to 9 points lower
    (`tests/benchmarks/MEASURED.md`, below nano), which two starts may be too close to show.
    """
    acts = {one.student: models[one.student].yaml.get("activation") for one in meeting}
    seen: set[tuple[int, str | None]] = set()
    for one in sorted(meeting, key=lambda one: (-one.parameters, acts[one.student] is not None)):
        if {(one.imgsz, acts[one.student]), (one.imgsz, None)}.isdisjoint(seen):
            seen.add((one.imgsz, acts[one.student]))
            yield one


def _start(
    model: DetectionModel,
    teacher: DetectionModel,
    recipe: Recipe,
    side: int,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
) -> float | None:
    """Return mAP50-95 on val, 0 to 100, of a student fitted inside its teacher; None where it would not start there."""
    small = copy.deepcopy(model)
    device = select_device(parse_device(settings.get("device")), verbose=False)
    if begin_inside(small, teacher, recipe, data=data, imgsz=side, device=device) is None:
        return None
    return 100 * float(evaluate(small, settings["data"], imgsz=side, **measured_by(settings))["map"])


def _too_slow(found: Sequence[Candidate], asked: Deadline) -> str:
    best = min(found, key=lambda one: one.ms)
    return (
        f"latency={asked.latency:g}: nothing meets it; the fastest of {len(found)} candidates, {best.name}, takes "
        f"{best.ms:.1f} ms a picture ({asked.how}); give latency={math.ceil(best.ms)} or more, a smaller imgsz=, or "
        "another precision= or threads="
    )


def _say(found: Sequence[Candidate], taken: Candidate, asked: Deadline, doubt: str) -> None:
    LOGGER.info(f"\n{_table(found, asked)}\n")
    if doubt:
        LOGGER.warning(doubt if asked.latency_on else f"{doubt}, and the least of each is taken, not the median")
    start = "" if taken.map is None else f"; the best start: mAP50-95 {taken.map:.1f} on val before it is trained"
    LOGGER.info(f"{PREFIX}takes {taken.name}: {taken.ms:.1f} of {asked.latency:g} ms a picture ({asked.how}){start}")


def _table(found: Sequence[Candidate], asked: Deadline) -> str:
    rows = [
        [
            Path(one.student).stem,
            str(one.imgsz),
            f"{one.parameters:,}",
            f"{one.ms:.1f}",
            "yes" if one.ms <= asked.latency else "no",
            NO_VALUE if one.map is None else f"{one.map:.1f}",
        ]
        for one in found
    ]
    header = ["candidate", "px", "parameters", "ms a picture", f"within {asked.latency:g} ms", "mAP50-95 of its start"]
    return Table(f"Candidates, {asked.how}", header, rows).drawn()
