"""Several teachers of one architecture, each for the pictures that it has not seen in its own training.

Cross-fitting: what a model says about its own training pictures is their labels said again, surer. Out-of-fold answers
are what stacking has always learned from (Wolpert, "Stacked generalization", Neural Networks 5, 1992).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, SetAnswer
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.yolo import YoloTeacher


class FoldedTeacher:
    """Answers for each picture of a batch by the teacher of its fold.

    Attributes:
        teachers: one a fold, with equal heads.
        fold_of: index of the teacher of each picture, by file.
    """

    def __init__(self, teachers: Sequence[YoloTeacher], fold_of: Mapping[str, int]) -> None:
        self.teachers, self.fold_of = list(teachers), fold_of
        first = self.teachers[0]
        self.names, self.strides, self.widths = first.names, first.strides, first.widths
        self.needs: Needs = first.needs

    def __call__(self, images: Tensor) -> DenseAnswer:
        """Answer by the first teacher for pictures of no file, such as those that a price is measured on."""
        return self.teachers[0](images)

    def of_batch(self, batch: Mapping[str, Any]) -> DenseAnswer:
        """Answer for `batch["img"]`, each picture by the teacher of the fold of its `im_file`.

        Raises:
            RequestError: a picture belongs to no fold.
        """
        if "im_file" not in batch:
            return self(batch["img"])
        folds = [self._fold(file) for file in batch["im_file"]]
        parts, order = [], []
        for number, teacher in enumerate(self.teachers):
            if own := [place for place, fold in enumerate(folds) if fold == number]:
                part = teacher(batch["img"][own])
                teacher.wait(part)
                parts.append(part)
                order += own
        return joined(parts, torch.tensor(order, device=batch["img"].device).argsort())

    def wait(self, answer: DenseAnswer | SetAnswer) -> None:
        """Wait for the first teacher, which is the only one that is not waited for when it is asked."""
        self.teachers[0].wait(answer)

    def _fold(self, file: str) -> int:
        try:
            return self.fold_of[file]
        except KeyError:
            raise RequestError(f"teacher_folds: {file} is in no fold; start the run from its first epoch") from None


def joined(parts: Sequence[DenseAnswer], order: Tensor) -> DenseAnswer:
    """Return answers to parts of a batch as one answer.

    Args:
        parts: with the same levels.
        order: for each picture of the batch its place in the parts put one after the other.
    """

    def branch(branches: Sequence[DenseBranch | None]) -> DenseBranch | None:
        present = [b for b in branches if b is not None]
        if not present:
            return None
        sides = [b.sides for b in present if b.sides is not None]
        return DenseBranch(
            torch.cat([b.logits for b in present])[order],
            torch.cat(sides)[order] if sides else None,
            present[0].anchors,
            present[0].strides,
        )

    first = parts[0]
    maps = {stride: torch.cat([part.maps[stride] for part in parts])[order] for stride in first.maps}
    return DenseAnswer(branch([p.one2many for p in parts]), branch([p.one2one for p in parts]), maps, first.cells)
