"""The student as automatic batch size sees it: with all that distillation keeps beside it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.distillation.anchor_assignment import SetAssignment
from yolo_distill.distillation.terms import Terms
from yolo_distill.teachers.answer import SetAnswer, read_head
from yolo_distill.teachers.teacher import Teacher


class WithTeacher(nn.Module):
    """A student whose forward pass asks the teacher and computes the terms, as a training step does.

    The host measures the memory of forward and backward pass of a copy of what it is given. Only the student is copied:
    the teacher is there once in training as well, and its weights are already counted.

    Relies on: the host asks the model for `yaml`, `stride` and `names` besides calling it.
    """

    def __init__(self, student: DetectionModel, teacher: Teacher, terms: Terms) -> None:
        super().__init__()
        self.student = student
        self.yaml, self.stride, self.names = student.yaml, student.stride, student.names
        self._asked, self._terms = teacher, terms

    def __deepcopy__(self, memo: dict[int, Any]) -> WithTeacher:
        return WithTeacher(deepcopy(self.student, memo), self._asked, self._terms)

    def forward(self, images: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Return the student's raw output and the terms."""
        answer = self._asked(images.detach())
        raw = self.student(images)
        self._asked.wait(answer)
        head = self.student.model[-1]
        with torch.autocast(images.device.type, enabled=False):
            student = read_head(raw, [int(s) for s in head.stride], int(head.reg_max))
            if isinstance(answer, SetAnswer):
                floor = self._terms.recipe.box_floor
                answer = SetAssignment(self.student.init_criterion(), self._terms.classes, floor)(student, answer)
            height, width = images.shape[-2:]
            return raw, self._terms(student, answer, 1.0, 1.0, (height, width))
