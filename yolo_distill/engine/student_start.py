"""Where a student of a run starts: from weights of its own, or inside its teacher."""

from __future__ import annotations

from typing import Any

from torch import nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.dataset import pictures_of
from yolo_distill.engine.optimizer_steps import expected_steps
from yolo_distill.engine.teaching import require_channels_of_teachers
from yolo_distill.errors import RequestError
from yolo_distill.initialization.initialize import begin_inside
from yolo_distill.initialization.weight_selection import StartReport, plan_start
from yolo_distill.models.imgsz import rounded_imgsz
from yolo_distill.recipe import Recipe

PREFIX = colorstr("distill: ")
#: Of the batch norms of a student that starts fitted and is trained gently.
MOMENTUM = 0.1


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
                "and yolo-distill train tries both"
            )
        return None
    if teacher is None:
        if recipe.init == "teacher":
            raise RequestError(f"init=teacher: {recipe.teacher} is no YOLO that a student could start from")
        LOGGER.info(f"{PREFIX}student starts from random weights: {recipe.teacher} is no YOLO")
        return None
    require_channels_of_teachers(recipe, trainer.teachers, trainer.data)
    model.names = trainer.data["names"]
    imgsz = rounded_imgsz(model, trainer.args.imgsz)
    device, fraction = trainer.device, trainer.args.fraction
    return begin_inside(model, teacher, recipe, data=trainer.data, imgsz=imgsz, device=device, fraction=fraction)


def settle_start(trainer: Any, *, inside: bool) -> tuple[Recipe, str]:
    """Settle what a run leaves open until it is known where its student starts, and how gently it is trained.

    A student that starts fitted is kept from falling far below its start, also where its run is resumed.

    Returns:
        the settled recipe, and in words why its terms teach or not.
    """
    recipe, args, why = trainer.recipe, trainer.args, "as it was begun"
    if not trainer.resume:
        steps = expected_steps(len(pictures_of(trainer.data, "train")), {**vars(args), "batch": trainer.batch_size})
        taught, why = recipe.teaching(inside=inside, steps=steps)
        recipe = recipe.settled(inside=inside, steps=steps, task=str(args.task))
        if taught and inside:
            LOGGER.info(f"{PREFIX}its teacher also teaches it: {why}")
    if recipe.init_warmup:
        # With the host's 0.03 statistics follow the weights so slowly that for some hundred batches val measures a
        # network that nobody trains; tests/benchmarks/MEASURED.md, "A schedule for starts".
        for module in unwrap_model(trainer.model).modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        if not trainer.resume and not args.time:
            args.warmup_epochs = recipe.init_warmup * trainer.epochs
            args.warmup_bias_lr = 0.0  # biases come to their rate from below as well
    return recipe, why
