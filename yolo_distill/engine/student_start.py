"""Where a student of a run starts: from weights of its own, or inside its teacher."""

from __future__ import annotations

from typing import Any

from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.engine.teaching import require_channels
from yolo_distill.errors import RequestError
from yolo_distill.initialization.initialize import begin_inside
from yolo_distill.initialization.weight_selection import StartReport, plan_start
from yolo_distill.models.checkpoint import rounded_imgsz

PREFIX = colorstr("distill: ")


def start_student(trainer: Any, model: DetectionModel, *, has_weights: bool) -> StartReport | None:
    """Start a student inside its teacher, in place, where the recipe says so.

    Returns:
        what was taken from the teacher; None where it starts as it was built.

    Raises:
        RequestError: the teacher is none that it could start from, although the recipe wants it.
    """
    recipe, teacher = trainer.recipe, trainer.teachers.start
    if recipe.init == "auto" and has_weights:
        if teacher is not None and plan_start(model, teacher)[1].corresponds:
            LOGGER.info(
                f"{PREFIX}student starts from its own weights; init=teacher would start it inside the teacher, "
                "and init=try takes the better of the two"
            )
        return None
    if teacher is None:
        if recipe.init == "teacher":
            raise RequestError(f"init=teacher: {recipe.teacher} is no YOLO that a student could start from")
        LOGGER.info(f"{PREFIX}student starts from random weights: {recipe.teacher} is no YOLO")
        return None
    require_channels(recipe, trainer.teachers, trainer.data)
    model.names = trainer.data["names"]
    imgsz = rounded_imgsz(model, trainer.args.imgsz)
    return begin_inside(
        model, teacher, recipe, args=trainer.args, data=trainer.data, imgsz=imgsz, device=trainer.device
    )
