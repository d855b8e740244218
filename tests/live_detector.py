"""A detector that has not been trained, yet looks at the picture.

In eval mode a fresh network answers the same to every picture: its batch norms expect variances of 1, what reaches them
is smaller at every layer, and nothing of the picture is left at the head. One batch in training mode fills in the
statistics; class weights that spread the logits then make it as sure of some places as a trained one is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.models.tasks import TASKS, task_of


def draw(count: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    """Return BGR pictures (height, width, 3) of a disc and a square on blurred noise."""
    random = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 3)
        x, y, left, top = (int(at * side) for at, side in zip(random.random(4), (width, height) * 2, strict=True))
        cv2.circle(picture, (x, y), 12, (30, 40, 250), -1)
        cv2.rectangle(picture, (left, top), (left + 24, top + 16), (240, 200, 10), -1)
        pictures.append(picture)
    return pictures


def fill_statistics(model: torch.nn.Module) -> Any:
    """Fill in the statistics of all batch norms by one batch in training mode, and return its answer."""
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    usual = norms[0].momentum
    for norm in norms:
        norm.momentum = 1.0
    batch = torch.from_numpy(np.stack(draw(8, 128, 128, seed=1)).transpose(0, 3, 1, 2)).float() / 255
    with torch.no_grad():
        answer = model.train()(batch)
    for norm in norms:
        norm.momentum = usual
    return answer


def live_detector(
    architecture: str, names: Iterable[str] = ("round", "square"), seed: int = 4, task: str = "detect"
) -> DetectionModel:
    """Return an untrained detector whose boxes and scores depend on the picture."""
    torch.manual_seed(seed)
    model = TASKS[task].model(architecture, nc=len(names := list(names)), verbose=False)
    model.names = dict(enumerate(names))
    head = model.model[-1]
    branches = {"one2many": head.cv3, "one2one": getattr(head, "one2one_cv3", None)}
    for level in (level for levels in branches.values() for level in levels or ()):
        level[-1].bias.data[:] = 0.0
    answer = fill_statistics(model)
    for branch, levels in branches.items():
        if levels is not None:
            spread = float(answer.get(branch, answer)["scores"].std())
            for level in levels:
                level[-1].weight.data *= 2.0 / spread
                level[-1].bias.data[:] = -3.0
    if head.reg_max == 1:  # boxes of about two cells rather than four, which would not fit the picture
        for branch in ("cv2", "one2one_cv2"):
            for level in getattr(head, branch, None) or ():
                level[-1].bias.data[:] = 1.0
    return model.eval()


def save(model: DetectionModel, path: Path, imgsz: int, **train_args: Any) -> Path:
    """Save a checkpoint the way the host does."""
    torch.save({"model": model, "train_args": {"imgsz": imgsz, "task": task_of(model), **train_args}}, path)
    return path
