"""A teacher that looks twice, at the picture and at its mirror image: test-time augmentation for answers of any kind.

Dense answers are averaged place by place: logits, side outputs and maps of the picture with those of the mirror image,
mirrored back. Sets are joined as those of two teachers are, see `yolo_distill.teachers.several`.

A one-to-one branch may choose one anchor for an object in the picture and its neighbour in the mirror image. The mean
then has two answers of half the confidence, which is why that branch gains less than the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, SetAnswer
from yolo_distill.teachers.several import fuse
from yolo_distill.teachers.teacher import Teacher

#: The four sides of a box, left, top, right and bottom, as a mirror shows them.
_MIRRORED = [2, 1, 0, 3]
#: What dense teachers say about themselves beyond the protocol, passed on where there is one.
_DENSE = frozenset({"has_one2one", "classes", "reg_max", "grid"})


class FlippedToo:
    """Answers by a teacher's two views of a picture; the answer to a mirrored picture is the mirrored answer.

    For a dense teacher that holds exactly. On a GPU the answers are waited for where they are joined, not later.

    Attributes:
        teacher: whom it asks, twice as often as it is asked itself.
        names: the teacher's, as are `strides`, `widths` and `needs`; see `yolo_distill.teachers.teacher`.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.needs = teacher, teacher.needs
        self.names, self.strides, self.widths = teacher.names, teacher.strides, teacher.widths

    def __getattr__(self, name: str) -> Any:
        if name in _DENSE:
            return getattr(self.teacher, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, images: Tensor) -> DenseAnswer | SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1.

        Raises:
            RequestError: the pictures are not a whole number of a dense teacher's cells wide; or sets are to be joined,
                and the library for that is missing.
        """
        # One after the other: a batch of both would need twice the memory, and its two halves might not round alike.
        straight, mirrored = self.teacher(images), self.teacher(images.flip(-1))
        for answer in (straight, mirrored):
            self.teacher.wait(answer)
        height, width = images.shape[-2:]
        if isinstance(straight, DenseAnswer):
            assert isinstance(mirrored, DenseAnswer)
            return mean_answer(straight, mirror_dense(mirrored, width))
        assert isinstance(mirrored, SetAnswer)
        back = mirror_set(mirrored, width)
        known = torch.ones(2, len(self.names), dtype=torch.bool)
        return replace(fuse([straight, back], known, (height, width)), maps=_mean_maps(straight.maps, back.maps))

    def wait(self, answer: DenseAnswer | SetAnswer) -> None:
        """Do nothing: the teacher was waited for before its answers were joined."""


def mirror_dense(answer: DenseAnswer, width: int) -> DenseAnswer:
    """Return the answer to the mirrored pictures, taken from that to the pictures.

    Args:
        answer: to pictures `width` pixels wide.
        width: a multiple of every stride.

    Raises:
        RequestError: it is not, so that the mirror image of an anchor lies between two others.
    """
    if uneven := [stride for stride in answer.cells if width % stride]:
        raise RequestError(
            f"teacher_tta=true: pictures {width} px wide do not mirror on levels of stride "
            f"{', '.join(map(str, uneven))}; use an imgsz that is a multiple of {max(uneven)}"
        )
    device = next((b.logits.device for b in (answer.one2many, answer.one2one) if b is not None), None)
    levels = torch.split(torch.arange(sum(answer.cells.values()), device=device), list(answer.cells.values()))
    rows = [own.view(-1, width // stride) for stride, own in zip(answer.cells, levels, strict=True)]
    index = torch.cat([own.flip(1).flatten() for own in rows])

    def branch(own: DenseBranch | None) -> DenseBranch | None:
        if own is None:
            return None
        there = own.take(index)
        sides = None if there.sides is None else there.sides[:, :, _MIRRORED]
        return replace(there, sides=sides, anchors=own.anchors, strides=own.strides)

    maps = {stride: m.flip(-1) for stride, m in answer.maps.items()}
    return DenseAnswer(branch(answer.one2many), branch(answer.one2one), maps, answer.cells)


def mirror_set(answer: SetAnswer, width: int) -> SetAnswer:
    """Return the answer to the mirrored pictures, taken from that to pictures `width` pixels wide."""
    left, top, right, bottom = answer.boxes.unbind(-1)
    boxes = torch.stack([width - right, top, width - left, bottom], -1)
    boxes = boxes * answer.present.unsqueeze(-1)
    return SetAnswer(boxes, answer.scores, {stride: m.flip(-1) for stride, m in answer.maps.items()})


def mean_answer(one: DenseAnswer, other: DenseAnswer) -> DenseAnswer:
    """Return the mean of two answers on the same anchors: of logits, side outputs and maps."""

    def branch(a: DenseBranch | None, b: DenseBranch | None) -> DenseBranch | None:
        if a is None or b is None:
            return None
        sides = None if a.sides is None or b.sides is None else (a.sides + b.sides) / 2
        return replace(a, logits=(a.logits + b.logits) / 2, sides=sides)

    maps = _mean_maps(one.maps, other.maps)
    return DenseAnswer(branch(one.one2many, other.one2many), branch(one.one2one, other.one2one), maps, one.cells)


def _mean_maps(one: dict[int, Tensor], other: dict[int, Tensor]) -> dict[int, Tensor]:
    return {stride: (m + other[stride]) / 2 for stride, m in one.items()}
