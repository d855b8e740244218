"""How a run's teacher computes, and what asking it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.dataset import pictures_of
from yolo_distill.data.samples import sample_pictures
from yolo_distill.engine.step_cost import cost_of_teaching
from yolo_distill.files import write_bytes
from yolo_distill.losses.devices import of_first_device
from yolo_distill.teachers.precision import Choice, choose_forward, goes_on_here
from yolo_distill.teachers.yolo import YoloTeacher
from yolo_distill.timing import AT_A_TIME_ON_GPU, timed_pictures
from yolo_distill.validation import read_json

#: A teacher that takes more than this many of the student's own steps is warned of.
DEAR = 2.0
#: Of a run's folder, where it is kept what a step costs.
FILE = "pace.json"
PREFIX = colorstr("distill: ")


def choose_precisions(trainer: Any, yolos: Sequence[YoloTeacher], samples: Tensor) -> list[Choice]:
    """Set up how each YOLO among the teachers computes; with several devices as on the first of them.

    Args:
        trainer: of the run.
        yolos: as they were opened.
        samples: pictures of the run as the teachers see them, shape (N, 3, H, W).
    """
    recipe = trainer.recipe
    answers = len(pictures_of(trainer.data, "train")) * trainer.epochs * (recipe.kd_until or 1.0)
    lost = trainer.resume and not goes_on_here(recipe.teacher_precision, trainer.device.type)
    wanted = ["auto" if lost else recipe.teacher_precision] * len(yolos)

    def choose() -> list[Choice]:
        batch = _pictures_a_step(trainer)
        return [choose_forward(*pair, samples, answers, batch=batch) for pair in zip(yolos, wanted, strict=True)]

    first = choose() if RANK in {-1, 0} else []
    wanted = of_first_device([choice.precision for choice in first])
    return first or choose()


def _pictures_a_step(trainer: Any) -> int:
    """Return the pictures in a batch of one device; a guess as long as the host is still to find out how many fit."""
    batch = trainer.batch_size
    return max(1, int(batch) // max(1, trainer.world_size)) if batch >= 1 else AT_A_TIME_ON_GPU


def measure_cost(trainer: Any) -> dict[str, Any]:
    """Measure and say what teaching costs here; warn where it costs more than the student itself is worth.

    Returns:
        precision of `student` and `teacher`, how much longer than the student's own a `step` takes; and how far the
        teacher's answers are `off`, where that is too far.
    """
    teaching, amp = trainer.teaching, trainer.args.amp
    precision = trainer.precision.chosen or (("bf16" if amp == "bf16" else "fp16") if trainer.amp else "fp32")
    model = unwrap_model(trainer.model)
    count = timed_pictures(trainer.device, _pictures_a_step(trainer))
    samples = sample_pictures(trainer.data, trainer.args.imgsz, count).to(trainer.device)
    share = cost_of_teaching(model, trainer.criterion, samples, precision)
    rests = trainer.teacher_stop.teacher_map is not None
    rest = ", until the student is better than it on val (kd_until=1: to the end)" if rests else ""
    LOGGER.info(f"{PREFIX}teacher: {teaching.name}, +{share:.0%} per step{rest}")
    if share > DEAR:
        LOGGER.warning(
            f"{PREFIX}the teacher takes {share:.1f} times the student's own step; a smaller teacher is cheaper and "
            "often teaches as well, and kd_until=0.5 asks it for half of the epochs"
        )
    found = {"student": precision, "teacher": teaching.name, "step": round(1 + share, 3)}
    return {**found, "off": teaching.off} if teaching.off else found


def keep_cost(folder: Path, cost: dict[str, Any] | None) -> None:
    """Leave what a step costs in the run's folder, for the process that started those of several GPUs as well."""
    file = folder / FILE
    if cost is None:
        file.unlink(missing_ok=True)  # of an earlier run in this folder
    else:
        write_bytes(file, json.dumps(cost).encode())


def read_cost(folder: Path) -> dict[str, Any] | None:
    """Return what `measure_cost` found for the run in a folder; None for one that had no teacher."""
    file = folder / FILE
    return read_json(file, dict, "what a run measured of its teacher") if file.is_file() else None
