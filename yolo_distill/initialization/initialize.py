"""Puts a student inside its teacher, as the recipe's `init` settings say: which channels, and how they are fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.data.class_mapping import read_class_map
from yolo_distill.data.samples import sample_pictures
from yolo_distill.initialization.channel_selection import norm_scores
from yolo_distill.initialization.least_squares import reconstruct
from yolo_distill.initialization.weight_selection import AUTO_SHARE, StartReport, plan_start, require_correspondence
from yolo_distill.recipe import Recipe

PREFIX = colorstr("distill: ")
#: Training pictures that the student is fitted on; fewer where they are large, as each has more places then and all are
#: in memory at once.
PICTURES, PIXELS = 128, 32 * 640 * 640


def begin_inside(
    student: DetectionModel,
    teacher: DetectionModel,
    recipe: Recipe,
    *,
    data: Mapping[str, Any],
    imgsz: int,
    device: torch.device,
    fraction: Any = 1.0,
) -> StartReport | None:
    """Load the teacher's chosen channels into the student, in place.

    Args:
        student: with its initial weights, and the class names of the data.
        teacher: as its checkpoint holds it.
        recipe: says how.
        data: the host's description of the data set.
        imgsz: side of the pictures in pixels, as the host rounds it.
        device: where to fit.
        fraction: Ultralytics' setting of the run, whose pictures alone it is fitted on.

    Returns:
        what was taken; None where `init=auto` found too little that corresponds, and the student stays as it is.

    Raises:
        RequestError: `init=teacher`, and too little corresponds; or as `read_class_map` and `plan_start`.
    """
    scores = norm_scores(teacher) if recipe.init_channels == "norm" else None
    class_map = read_class_map(recipe.class_map) if recipe.class_map else None
    selected, report = plan_start(student, teacher, scores=scores, class_map=class_map)
    if recipe.init == "teacher":
        require_correspondence(report)
    elif not report.corresponds:
        deeper = "; init=teacher starts it there all the same" if report.share >= AUTO_SHARE else ""
        LOGGER.info(f"{PREFIX}student starts from random weights: its layers are not the teacher's ({report}){deeper}")
        return None
    student.load_state_dict(selected, strict=False)
    LOGGER.info(f"{PREFIX}the student is cut out of your teacher: {report}")
    if recipe.init_fit:
        count = max(PICTURES // 16, min(PICTURES, PIXELS // imgsz**2))
        pictures = sample_pictures(dict(data), imgsz, count, fraction)
        fitted = reconstruct(student, teacher, report, pictures, device=device, prefix=PREFIX)
        LOGGER.info(f"{PREFIX}and fitted to its answers to {len(pictures)} training pictures: {fitted}")
    return report
