"""Any ONNX detector as a teacher, by ONNX Runtime on a CPU.

Files of ours and of Ultralytics say what they are. One that ends in a YOLO's raw head, (B, 4 + nc, A), answers densely:
a probability for each class at each anchor. One that ends in detections, (B, N, 6), answers in sets, with the score of
each box at its one class and 0 for all others, which is all that it says. Files of others answer in sets as well, once
their outputs are described; see `onnx_description.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import MOST, DenseAnswer, DenseBranch, SetAnswer, as_set, make_set, surest
from yolo_distill.teachers.class_names import names_by_number
from yolo_distill.teachers.head import Needs, Size, cells, points, strides_of
from yolo_distill.teachers.onnx_description import read_description
from yolo_distill.teachers.onnx_reading import described_reading, noted_reading
from yolo_distill.teachers.onnx_session import OnnxSession
from yolo_distill.teachers.teacher import Teacher

#: Probabilities nearer to 0 or 1 than this are cut off when they are turned back into logits.
_SURE = 1e-6


class OnnxTeacher(Teacher):
    """Answers for a batch of pictures; it shows no maps.

    Pictures of another size than a file takes are resized to it, and its boxes back: such an answer is a set also where
    the file's own is dense, since the anchors are not the student's.

    Attributes:
        size: height and width of the pictures that the file takes; None for any.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        names: Mapping[int, str] | None = None,
        outputs: str | Path | None = None,
        needs: Needs | None = None,
        threads: int | None = None,
    ) -> None:
        """Open a file, ask it once, and find out what it answers.

        Args:
            file: a `.onnx` file.
            names: class names by number; those of the description or the file when not given.
            outputs: a description, for a file that does not say what its outputs mean.
            needs: what it will be asked for.
            threads: that it computes on; as many as torch when None.

        Raises:
            RequestError: it can't be run or read, or its classes have no names.
        """
        said = f"teacher={file}"
        self.needs, self.widths = needs or Needs(), dict[int, int]()
        description = None if outputs is None else read_description(outputs)
        form = None if description is None else description.input
        self._session = OnnxSession(Path(file).expanduser(), said, form, threads)
        self.size = self._session.size
        self.names = dict(
            names or (description and description.names) or names_by_number(self._session.notes.get("names"))
        )
        if not self.names:
            raise RequestError(f"{said}: names no classes; give teacher_names=, a data.yaml or the names with commas")
        self._classes = max(self.names) + 1
        size = self._session.usual
        _, raw = next(self._session.run(torch.full((1, 3, *size), 0.5)))
        self._reading = (
            described_reading(description, raw, self._classes, said)
            if description
            else noted_reading(self._session.notes, raw, size, self._classes, said)
        )
        if self._reading.alone:
            self._session.most = 1
        boxes, scores = self._reading.read(raw, size)
        if scores.numel() and (scores.min() < 0 or scores.max() > 1 + _SURE):
            raise RequestError(
                f"{said}: its scores go from {scores.min():.2f} to {scores.max():.2f}, which are no probabilities; say "
                "what makes some of them in teacher_outputs=, scores: {activation: sigmoid} or softmax"
            )
        self.strides = strides_of(size, boxes.shape[1]) if self._reading.anchored else []

    def asked_for(self, needs: Needs) -> OnnxTeacher:
        """Return the same teacher, on the same session, for one who needs something else of it."""
        other = copy(self)
        other.needs = needs
        return other

    def __call__(self, images: Tensor) -> DenseAnswer | SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1, on any device; in single precision, on that device."""
        size = (images.shape[-2], images.shape[-1])
        taken = images.detach().float().cpu()
        if self.size not in {None, size}:
            taken = interpolate(taken, self.size, mode="bilinear", align_corners=False, antialias=True)
        height, width = taken.shape[-2:]
        parts = []
        for count, raw in self._session.run(taken):
            boxes, scores = self._reading.read(raw, (height, width))
            parts.append((boxes[:count].to(images.device), scores[:count].to(images.device)))
        anchors = parts[0][0].shape[1]
        if self.strides and (height, width) == size and sum(cells(size, self.strides).values()) == anchors:
            boxes, scores = (torch.cat(values) for values in zip(*parts, strict=True))
            return self._dense(boxes, scores, size)
        sides = torch.tensor([size[1] / width, size[0] / height] * 2, device=images.device)
        found = [one for boxes, scores in parts for one in self._found(boxes * sides, scores)]
        return make_set([boxes for boxes, _ in found], [scores for _, scores in found], self._classes)

    def _dense(self, boxes: Tensor, scores: Tensor, size: Size) -> DenseAnswer:
        """Return boxes (B, A, 4) and probabilities (B, A, nc) as a head with distances to the sides would give them."""
        many = _branch(boxes, scores, *points(size, self.strides, boxes.device))
        many = many if self.needs.boxes else replace(many, sides=None)
        return DenseAnswer(many, None, {}, cells(size, self.strides))

    def _found(self, boxes: Tensor, scores: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return what there is in each picture, surest first, of boxes (B, N, 4) and probabilities (B, N, nc)."""
        if self._reading.repeats:
            # Seen from the corner of the picture, any boxes are what a head would say of that one point.
            corner, pixel = boxes.new_zeros(boxes.shape[1], 2), boxes.new_ones(boxes.shape[1], 1)
            answer = as_set(DenseAnswer(_branch(boxes, scores, corner, pixel), None, {}, {}))
            boxes, scores = answer.boxes, answer.scores
        return [(where[:MOST], what[:MOST]) for where, what in surest(boxes, scores)]


def _branch(boxes: Tensor, scores: Tensor, anchors: Tensor, strides: Tensor) -> DenseBranch:
    """Return boxes (B, A, 4), xyxy in pixels, and probabilities (B, A, nc) as logits and distances in grid units."""
    at = anchors * strides
    sides = torch.cat([at - boxes[..., :2], boxes[..., 2:] - at], -1) / strides
    return DenseBranch(scores.logit(_SURE), sides[..., None], anchors, strides)
