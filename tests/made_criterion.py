"""A criterion of small parts: terms over three levels, and a teacher that is counted."""

from __future__ import annotations

from torch import nn

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation.criterion import DistillationCriterion
from yolo_distill.distillation.terms import Levels, Terms
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.teacher import Teacher

SIZE = 64
STRIDES = [8, 16, 32]
NAMES = {0: "a", 1: "b", 2: "c"}


def make_terms(projectors=None, **recipe):
    levels = Levels.match(STRIDES, STRIDES)
    return Terms(
        make_recipe({"teacher": "-", **recipe}), match_classes(NAMES, NAMES), levels, projectors or nn.ModuleDict()
    )


class Counting(Teacher):
    """A teacher that is counted."""

    def __init__(self, teacher):
        self.teacher, self.asked = teacher, 0

    def __call__(self, images):
        self.asked += 1
        return self.teacher(images)

    def wait(self, answer):
        pass


def make_criterion(student, teacher, **recipe):
    return DistillationCriterion(student.init_criterion(), Counting(teacher), make_terms(**recipe), STRIDES, 1)
