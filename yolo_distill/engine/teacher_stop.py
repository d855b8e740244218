"""When a teacher has nothing more to teach: once its student is better than it on val.

Behind that point it holds the student back. Source: Cho & Hariharan, "On the Efficacy of Knowledge Distillation", ICCV
2019, arXiv 1910.01348, who stop distilling early for that reason, after a number of epochs that is found by trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import distributed
from ultralytics.utils import LOGGER, RANK, colorstr

from yolo_distill.data.samples import random_state_kept
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.teacher_setup import measure_teachers
from yolo_distill.errors import DistillError
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.loading import Teachers

PREFIX = colorstr("distill: ")
#: Column of results.csv by which a student is compared with its teacher.
MAP = "metrics/mAP50-95(B)"
#: Where the teacher's figure travels in the host's arguments, to the workers of several devices.
TEACHER_MAP_KEY = "distill_teacher_map"


class Passing:
    """Mixin for a host trainer that distils.

    Attributes:
        teacher_map: the teacher's mAP50-95, 0..1, on what the student is validated on; None: nobody compares them.
        passed_after: epochs after which the student had passed its teacher; None: it has not, or nobody looks.
    """

    args: Any
    csv: Path
    ddp: bool
    recipe: Recipe
    teachers: Teachers
    world_size: int
    teacher_map: float | None = None
    passed_after: int | None = None

    def train(self) -> Any:
        """Train; with several devices the teacher is measured before their workers start, each of which has its part.

        Relies on: the workers' trainer is built with `overrides=vars(self.args)`.
        """
        if not self.ddp:
            return super().train()  # type: ignore[misc]
        self.measure_teacher()
        setattr(self.args, TEACHER_MAP_KEY, self.teacher_map)
        try:
            return super().train()  # type: ignore[misc]
        finally:
            delattr(self.args, TEACHER_MAP_KEY)

    def measure_teacher(self) -> None:
        """Measure the teacher as the host validates the student in training, where it is to rest once it is passed.

        It teaches to the end where it speaks for some of the classes only, so that its mAP is no measure of what it has
        to teach; where it alone teaches unlabelled pictures; and where it is worse than the student from the start and
        the user wants it all the same.
        """
        recipe, args = self.recipe, self.args
        if not recipe.gains or recipe.kd_until is not None or not args.val:
            return
        if recipe.match == "some" or recipe.unlabeled or recipe.force:
            return
        where = {"split": args.split, "imgsz": args.imgsz, "device": args.device}
        where |= {"single_cls": args.single_cls, "classes": args.classes}
        as_in_training = {"rect": True, "nms": args.nms, "conf": args.conf, "iou": args.iou, "max_det": args.max_det}
        try:
            with random_state_kept():
                found = measure_teachers(recipe, self.teachers, args.data, **where, **as_in_training)
        except DistillError as error:
            LOGGER.info(f"{PREFIX}the teacher teaches to the end, as it is not measured: {error}")
            return
        self.teacher_map = float(found["map"])
        LOGGER.info(f"{PREFIX}teacher: mAP50-95 {100 * self.teacher_map:.1f} on {args.split}")

    def look_whether_passed(self) -> None:
        """Find out, before an epoch, whether the student has passed its teacher; alike in all processes."""
        if self.recipe.kd_until is not None or self.passed_after is not None:
            return
        box: list[int | None] = [None]
        if RANK in {-1, 0} and self.csv.exists() and self.teacher_map is not None:
            box = [epochs_until_passed(read_columns(self.csv).get(MAP, []), self.teacher_map)]
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
