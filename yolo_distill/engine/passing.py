"""When a teacher has nothing more to teach: once its student is better than it on val.

Behind that point it holds the student back. Source: Cho & Hariharan, "On the Efficacy of Knowledge Distillation", ICCV
2019, arXiv 1910.01348, who stop distilling early for that reason, after a number of epochs that is found by trial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import distributed
from ultralytics.utils import LOGGER, RANK, colorstr

from yolo_distill.engine.random_state import random_state_kept
from yolo_distill.engine.shares import read_columns
from yolo_distill.engine.teachers_of_run import measure_teachers
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes
from yolo_distill.recipe import Recipe

PREFIX = colorstr("distill: ")
#: Column of results.csv by which a student is compared with its teacher.
MAP = "metrics/mAP50-95(B)"
#: Of a run's folder, where its teacher's figures on val are kept.
TEACHER_ON_VAL = "teacher_on_val.json"


class Passing:
    """Mixin for a host trainer that distils.

    Attributes:
        passed_after: epochs after which the student had passed its teacher; None: it has not, or nobody looks.
    """

    args: Any
    csv: Path
    recipe: Recipe
    resume: bool
    save_dir: Path
    world_size: int
    passed_after: int | None = None

    def train(self) -> Any:
        """Measure the teacher on val before the student is trained, once for all processes.

        Relies on: with several devices the host calls this in the process that starts their workers, and in each.
        """
        if RANK == -1:
            if not self.resume:  # of another run in this folder
                (Path(self.save_dir) / TEACHER_ON_VAL).unlink(missing_ok=True)
            # Where it speaks for some of the classes only, its mAP is no measure of what it has to teach.
            if self.recipe.gains and self.recipe.kd_until is None and self.recipe.match == "all" and self.args.val:
                self._measure_teacher()
        return super().train()  # type: ignore[misc]

    def _measure_teacher(self) -> None:
        args = self.args
        where = {"imgsz": args.imgsz, "device": args.device, "single_cls": args.single_cls, "classes": args.classes}
        try:
            with random_state_kept():
                found = teacher_on_val(Path(self.save_dir), self.recipe, args.data, **where)
        except RequestError as error:
            LOGGER.info(f"{PREFIX}the teacher teaches to the end, as it is not measured: {error}")
            return
        LOGGER.info(
            f"{PREFIX}teacher: mAP50-95 {100 * found['map']:.1f} on val; it rests once the student is better "
            "(kd_until=1: never)"
        )

    def look_whether_passed(self) -> None:
        """Find out, before an epoch, whether the student has passed its teacher; alike in all processes."""
        if self.recipe.kd_until is not None or self.passed_after is not None:
            return
        file = Path(self.save_dir) / TEACHER_ON_VAL
        box: list[int | None] = [None]
        if RANK in {-1, 0} and self.csv.exists() and file.is_file():
            teacher = json.loads(file.read_text(encoding="utf-8"))["map"]
            box = [epochs_until_passed(read_columns(self.csv).get(MAP, []), teacher)]
        if self.world_size > 1:
            distributed.broadcast_object_list(box, 0)
        self.passed_after = box[0]
        if self.passed_after is not None:
            LOGGER.info(f"{PREFIX}the student has passed its teacher on val, which rests from now on")


def epochs_until_passed(curve: Sequence[float], teacher: float) -> int | None:
    """Return after how many epochs a student was better than its teacher for the first time, or None.

    That may be chance where the two are nearly level, and then there is little left to teach.

    Args:
        curve: the student's mAP50-95 on val, an epoch each.
        teacher: its teacher's.
    """
    return next((done for done, value in enumerate(curve, 1) if value > teacher), None)


def teacher_on_val(folder: Path, recipe: Recipe, data: str, **where: Any) -> dict[str, Any]:
    """Return the figures of a run's teachers on val: those that were measured when it began, or measured now.

    Args:
        folder: of the run.
        recipe: names the teachers.
        data: the data set file.
        **where: size, device and classes, as `measure_teachers` takes them.

    Raises:
        RequestError: as `measure_teachers`.
    """
    file = folder / TEACHER_ON_VAL
    if file.is_file():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    found = measure_teachers(recipe, data, **where)
    write_bytes(file, (json.dumps(found, indent=2) + "\n").encode())
    return found
