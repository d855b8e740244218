"""When a teacher has nothing more to teach: once its student is better than it on val.

Behind that point it holds the student back. Source: Cho & Hariharan, "On the Efficacy of Knowledge Distillation", ICCV
2019, arXiv 1910.01348, who stop distilling early for that reason, after a number of epochs that is found by trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, RANK, colorstr

from yolo_distill.data.samples import random_state_kept
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.teacher_setup import measure_teachers
from yolo_distill.errors import DistillError
from yolo_distill.losses.devices import of_first_device
from yolo_distill.models.tasks import main_map, metric_of
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.loading import Teachers

PREFIX = colorstr("distill: ")
#: Where the teacher's figure travels in the host's arguments, to the workers of several devices.
TEACHER_MAP_KEY = "distill_teacher_map"


class TeacherStop:
    """Compares a student with its teacher, on what the student is validated on.

    Attributes:
        teacher_map: the teacher's mAP50-95, 0..1; None: nobody compares them.
        by_boxes: whether that is about boxes, and the student finds masks or keypoints.
        passed_after: epochs after which the student had passed its teacher; None: it has not, or nobody compares them.
    """

    def __init__(self, teacher_map: float | None, by_boxes: bool = False) -> None:
        self.teacher_map, self.by_boxes = teacher_map, by_boxes
        self.passed_after: int | None = None

    def measure_teacher(self, recipe: Recipe, teachers: Teachers, args: Any) -> None:
        """Measure the teacher as the host validates the student in training, where it is to rest once it is passed.

        It teaches to the end where it speaks for some of the classes only, so that its mAP is no measure of what it has
        to teach; where it alone teaches unlabelled pictures; and where it is worse than the student from the start and
        the user wants it all the same.
        """
        if not recipe.gains or recipe.kd_until is not None or not args.val:
            return
        if recipe.match == "some" or recipe.unlabeled or recipe.force:
            return
        keys = ("split", "imgsz", "device", "single_cls", "classes", "nms", "conf", "iou", "max_det")
        as_in_training = {"rect": True, **{key: getattr(args, key) for key in keys}}
        try:
            with random_state_kept():
                found = measure_teachers(recipe, teachers, args.data, task=args.task, **as_in_training)
        except DistillError as error:
            LOGGER.info(f"{PREFIX}the teacher teaches to the end, as it is not measured: {error}")
            return
        self.teacher_map, self.by_boxes = float(found["map"]), found["task"] != args.task
        LOGGER.info(f"{PREFIX}teacher: {metric_of(found['task'])} {100 * self.teacher_map:.1f} on {args.split}")

    def compare(self, recipe: Recipe, results: Path) -> None:
        """Find out before an epoch whether the student has passed its teacher; alike in all processes."""
        if recipe.kd_until is not None or self.passed_after is not None:
            return
        done = None
        if RANK in {-1, 0} and results.exists() and self.teacher_map is not None:
            done = epochs_until_passed(main_map(read_columns(results), of_boxes=self.by_boxes), self.teacher_map)
        self.passed_after = of_first_device(done)
        if self.passed_after is not None:
            LOGGER.info(f"{PREFIX}the student has passed its teacher on val, which rests from now on")


def epochs_until_passed(curve: Sequence[float], teacher: float) -> int | None:
    """Return after how many epochs a student was better than its teacher for the first time, or None.

    That may be chance where the two are nearly level, and then there is little left to teach.
    """
    return next((done for done, value in enumerate(curve, 1) if value > teacher), None)


def agree_on_epochs(trainer: Any) -> None:
    """Give all processes of a run as many epochs as the first has, so that they all ask the teacher as long.

    With `time=` the host counts the epochs that are left by each process's own clock.
    """
    if trainer.args.time:
        trainer.epochs = trainer.args.epochs = of_first_device(trainer.epochs)


def last_taught(recipe: Recipe, course: Course, batches: int, passed_after: int | None) -> int | None:
    """Return the batches after which the teacher rests, where an epoch has `batches`; None for never."""
    share = recipe.kd_until or 1.0
    if all(recipe.schedule.get(name) == "mosaic" for name in recipe.gains):
        share = min(share, course.mosaic / course.total)
    ends = [] if share == 1 else [max(1, round(share * course.total))]
    ends += [] if passed_after is None else [passed_after * batches]
    return min(ends, default=None)
