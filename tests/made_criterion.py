"""A criterion of small parts: made answers of a head, terms over three levels, and a teacher that is counted."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from yolo_distill.data.class_mapping import ClassMatch, match_classes
from yolo_distill.distillation.criterion import DistillationCriterion
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels, Terms
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import DenseAnswer, read_head
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.terms_table import TERMS

SIZE = 64
STRIDES = [8, 16, 32]
NAMES = {0: "a", 1: "b", 2: "c"}


def head_output(
    nc: int,
    reg_max: int = 1,
    strides: list[int] = STRIDES,
    end2end: bool = False,
    channels: int = 4,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return what a `Detect` head gives for two pictures, as leaves that collect gradients."""
    maps = [torch.randn(2, channels, SIZE // s, SIZE // s, device=device, requires_grad=True) for s in strides]
    anchors = sum((SIZE // s) ** 2 for s in strides)

    def branch():
        return {
            "boxes": (torch.rand(2, 4 * reg_max, anchors, device=device) * 2).requires_grad_(),
            "scores": torch.randn(2, nc, anchors, device=device).requires_grad_(),
            "feats": maps,
        }

    return {"one2many": branch(), "one2one": branch()} if end2end else branch()


def answer(output: dict[str, Any], reg_max: int = 1, strides: list[int] = STRIDES) -> DenseAnswer:
    return read_head(output, strides, reg_max)


def only(*terms: str, **settings: Any) -> dict[str, Any]:
    """Return recipe settings with gains of 1 for these terms alone."""
    return {"teacher": "t.pt", **dict.fromkeys(TERMS, 0), **dict.fromkeys(terms, 1), **settings}


def terms_of(classes: ClassMatch | None = None, teacher_strides: list[int] = STRIDES, **settings: Any) -> Terms:
    """Return terms of two classes, without those that have no gain here, for maps of four channels."""
    levels = Levels.match(STRIDES, teacher_strides)
    recipe = make_recipe(only(**settings))
    projectors = make_projectors(recipe, levels, dict.fromkeys(STRIDES, 4), dict.fromkeys(teacher_strides, 4), seed=0)
    return Terms(recipe, classes or match_classes({0: "a", 1: "b"}, {0: "a", 1: "b"}), levels, projectors)


def total(terms: Terms, student: DenseAnswer, teacher: DenseAnswer, many: float = 1.0, single: float = 1.0) -> Any:
    return sum(terms(student, teacher, many, single, (SIZE, SIZE)).values())


def make_terms(projectors=None, **recipe):
    """Return the terms of a recipe of three classes."""
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


def make_criterion(student, teacher, balancer=None, **recipe):
    host, terms = student.init_criterion(), make_terms(**recipe)
    return DistillationCriterion(host, Counting(teacher), terms, STRIDES, 1, balancer)
