"""How good any teacher is, by the host's evaluator: what it answers for a batch, measured as sets of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionValidator

from yolo_distill.data.dataset import check_data
from yolo_distill.evaluation.validator import AS_ONE, check_names, measure
from yolo_distill.teachers.answer import DenseAnswer, as_set
from yolo_distill.teachers.teacher import Teacher

#: Score below which the host's evaluator looks at no detection.
_CONF = 0.001


def evaluate_teacher(
    teacher: Teacher,
    data: str | Path,
    *,
    split: str = "val",
    imgsz: int,
    batch: int = 16,
    device: Any = None,
    single_cls: bool = False,
    classes: Any = None,
    columns: Mapping[int, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Measure a teacher on one split, on the same letterboxed squares that `evaluate` measures a model on.

    Args:
        teacher: asked for scores and boxes. A dense answer counts as the set that NMS makes of its one-to-many branch.
        data: data set file, see `check_data`.
        split: `train`, `val`, `test` or `minival`.
        imgsz: side of the square in pixels.
        batch: pictures at a time.
        device: where the teacher is, as the host has it (`cpu`, `0`, ...).
        single_cls: all classes are one, and a box is as sure as its surest class.
        classes: columns of the data's only classes that count; None: all.
        columns: the teacher's columns, of which the surest speaks, for each class of the data; a class that is left
            out is never detected. Without it the classes of both have to be the same.

    Returns:
        what `evaluate` does; `model` is the kind of teacher, `nms` and `rect` are None and False.

    Raises:
        RequestError: something about the data, the classes or a setting has to change first.
        DistillError: the host's evaluator failed.
    """
    found = check_data(data, split)
    names: dict[int, str] = AS_ONE if single_cls else dict(found["names"])
    shown = type(teacher).__name__
    if columns is None and not single_cls:
        check_names(teacher.names, names, shown, data)
    sources = {column: [column] for column in teacher.names} if columns is None else columns
    if single_cls:
        sources = {0: [column for several in sources.values() for column in several]}
    model = _AsDetector(teacher, names, sources)
    where: dict[str, Any] = {"task": "detect", "model": shown, "data": str(found["yaml_file"]), "split": split}
    where |= {"imgsz": imgsz, "batch": batch}
    own = {"device": device, "single_cls": single_cls, "classes": classes, "rect": False}
    return measure(model, data, names, {**where, **own}, validator=_OfBoxes)


class _OfBoxes(DetectionValidator):
    """The host's evaluator of boxes, for data with keypoints as well.

    Relies on: the host reads labels as its `args.task` says; those with keypoints it would take for outlines.
    """

    def build_dataset(self, *given: Any, **settings: Any) -> Any:
        """Build what the host builds, with labels read as what they are."""
        if "kpt_shape" in self.data:
            self.args.task = "pose"
        try:
            return super().build_dataset(*given, **settings)
        finally:
            self.args.task = "detect"


class _AsDetector(nn.Module):
    """A teacher as the host's evaluator takes a model: one that ends in detections and needs no NMS.

    Relies on: of a module that is none of its own the host reads `stride`, `names` and `end2end`, calls it with the
    pictures alone, and keeps rows (x1, y1, x2, y2, score, class) whose score is above its 0.001, the first `max_det`.
    """

    end2end = True

    def __init__(self, teacher: Teacher, names: Mapping[int, str], sources: Mapping[int, Sequence[int]]) -> None:
        super().__init__()
        self.names = dict(names)
        self.stride = torch.tensor([32.0])
        self._teacher, self._sources = teacher, sources

    def __deepcopy__(self, memo: dict[int, Any]) -> _AsDetector:
        """Return itself: the host measures a copy, and a session of ONNX Runtime has none."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return detections (B, N, 6), surest first, for pictures (B, 3, H, W): each box once a class, as NMS gives."""
        # The host runs in inference mode: what a teacher keeps for the next pictures, such as its grid, could not be
        # used in training then.
        with torch.inference_mode(False), torch.no_grad():
            answer = self._teacher(images.clone())
            self._teacher.wait(answer)
        if isinstance(answer, DenseAnswer):
            # By the branch that `evaluate` measures as well, unless there is the other only.
            many = answer if answer.one2many is None else replace(answer, one2one=None)
            answer = as_set(many, conf=_CONF, turned=self._teacher.task == "obb")
        rows = []
        for number, columns in self._sources.items():
            score = answer.scores[..., list(columns)].amax(-1, keepdim=True)
            rows.append(torch.cat([answer.boxes, score, torch.full_like(score, number)], -1))
        found = torch.cat(rows, 1) if rows else answer.boxes.new_zeros(len(images), 0, 6)
        order = found[..., 4].argsort(dim=-1, descending=True, stable=True)
        return found.gather(1, order[..., None].expand(-1, -1, 6))
