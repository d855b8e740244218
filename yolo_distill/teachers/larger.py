"""A teacher that sees the pictures larger than the student does, and says what it saw in the student's pixels.

With r = teacher_imgsz / imgsz, a level of stride s on the teacher's pictures is one of stride s / r on the student's:
the same grid of cells over the same picture. Nothing is resampled. Anchors, side outputs and maps are in units of cells
and stay as they are; only what is counted in pixels is divided by r.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher

#: Of a batch: the pictures as a teacher sees them that looks at them larger than the student does.
LARGE = "img_for_teacher"

_Value = TypeVar("_Value")


class AtLargerSize(Teacher):
    """Asks a teacher about pictures of another size, and answers for those of the student.

    Strides are in the student's pixels; levels for which these are no whole numbers are left out. On a GPU the teacher
    is waited for as it is asked.
    """

    def __init__(self, teacher: Teacher, teacher_imgsz: int, imgsz: int) -> None:
        """Put the sides of the teacher's and the student's pictures, in pixels, between the two.

        Raises:
            RequestError: the teacher's size is the smaller one, or leaves no level whose stride is a whole number.
        """
        if teacher_imgsz < imgsz:
            raise RequestError(
                f"teacher_imgsz={teacher_imgsz} is smaller than imgsz={imgsz}; leave it out for the same size, or use "
                f"twice or four times imgsz, such as {2 * imgsz}"
            )
        self.teacher, self.teacher_imgsz, self.imgsz = teacher, teacher_imgsz, imgsz
        self.names, self.needs = teacher.names, teacher.needs
        self.task, self.kpt_shape = teacher.task, teacher.kpt_shape
        self.head = getattr(teacher, "head", None)  # of a YOLO, whose numbers beside boxes are in cells
        self._levels = {s: s * imgsz // teacher_imgsz for s in teacher.strides if s * imgsz % teacher_imgsz == 0}
        self.strides = list(self._levels.values())
        self.widths = self._kept(teacher.widths)
        # Of a teacher that answers in sets the boxes are left, whatever the size.
        if teacher.strides and (teacher.needs.maps or isinstance(teacher, YoloTeacher)):
            self._require_levels()

    def __call__(self, images: Tensor) -> DenseAnswer | SetAnswer:
        """Answer for `images` of the student's size, shape (B, 3, H, W), RGB in 0..1, by enlarging them.

        That is what an answer costs, not what it is worth: the teacher sees no more than the student. `of_large` has
        more to look at.
        """
        size = [round(side * self.teacher_imgsz / self.imgsz) for side in images.shape[-2:]]
        return self.of_large(F.interpolate(images, size, mode="bilinear", align_corners=False))

    def of_batch(self, batch: Mapping[str, Any]) -> DenseAnswer | SetAnswer:
        """Answer for `batch["img"]`, by the pictures of the teacher's size where the batch has them."""
        return self.of_large(batch[LARGE]) if LARGE in batch else self(batch["img"])

    def of_large(self, images: Tensor) -> DenseAnswer | SetAnswer:
        """Answer for `images` of the teacher's size, shape (B, 3, r H, r W), in the pixels of the student's."""
        answer = self.teacher(images)
        self.teacher.wait(answer)
        maps = self._kept(answer.maps)
        if isinstance(answer, SetAnswer):
            extra = answer.extra
            if extra is not None and self.kpt_shape:
                extra = torch.cat([self._shrunk(extra[..., :2]), extra[..., 2:]], -1)
            return SetAnswer(self._shrunk(answer.boxes), answer.scores, maps, extra)
        self._require_levels()
        left = answer.keep(list(self._levels))
        many, one = (own and replace(own, strides=self._shrunk(own.strides)) for own in (left.one2many, left.one2one))
        return DenseAnswer(many, one, maps, self._kept(left.cells))

    def _kept(self, by_stride: Mapping[int, _Value]) -> dict[int, _Value]:
        """Return what belongs to the levels that are left, by their strides in the student's pixels."""
        return {self._levels[s]: value for s, value in by_stride.items() if s in self._levels}

    def _shrunk(self, pixels: Tensor) -> Tensor:
        return pixels * (self.imgsz / self.teacher_imgsz)

    def _require_levels(self) -> None:
        if not self._levels:
            levels = ", ".join(map(str, self.teacher.strides))
            raise RequestError(
                f"teacher_imgsz={self.teacher_imgsz} is {self.teacher_imgsz / self.imgsz:.4g} times "
                f"imgsz={self.imgsz}: no level of the teacher (stride {levels}) has a stride of whole pixels at the "
                f"student's size; use twice or four times imgsz, such as {2 * self.imgsz}"
            )
