"""The teacher of a run, set up for its student: opened, its precision chosen, classes and levels matched."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.class_mapping import require_match, taught_names
from yolo_distill.data.samples import sample_pictures
from yolo_distill.data.stored_answers import stored_answers
from yolo_distill.distillation.anchor_assignment import SetAssignment
from yolo_distill.distillation.object_terms import ObjectTerm, require_comparable
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels, Terms, needs_of
from yolo_distill.engine.teacher_cost import choose_precisions
from yolo_distill.engine.teacher_setup import classes_of
from yolo_distill.errors import RequestError
from yolo_distill.models.imgsz import channels_of, require_channels, rounded_imgsz
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, read_head
from yolo_distill.teachers.loading import Teachers
from yolo_distill.teachers.stored import StoredAnswers, StoredTeacher
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher
from yolo_distill.terms_table import FEATURE_TERMS, TABLE

#: Pictures that the teacher's precision is chosen on: enough for the ranges of its activations in int8, and read in a
#: second.
SAMPLES = 32
PREFIX = colorstr("distill: ")


class Teaching:
    """What a student is taught by, and how.

    Attributes:
        recipe: of the run, with the teacher's precision as it was chosen: a run that is resumed does not choose again.
        teacher: answers for a batch.
        stored: the answers that it reads; None for a teacher that is asked.
        terms: computes the terms from its answers and the student's.
        name: of the teacher and how it computes, for people.
        off: how far its answers are off where that is too far; empty otherwise.
    """

    recipe: Recipe
    stored: StoredAnswers | None = None

    def __init__(self, trainer: Any) -> None:
        """Set it up for a trainer whose student is on its device.

        Raises:
            RequestError: the teacher can't teach this student about this data as the recipe wants it.
        """
        recipe, data, model = trainer.recipe, trainer.data, unwrap_model(trainer.model)
        self._gains = recipe.gains
        imgsz = rounded_imgsz(model, trainer.args.imgsz)
        require_channels_of_teachers(recipe, trainer.teachers, data)
        self.teacher, yolos, name = self._open(trainer, imgsz)
        require_size(max(self.teacher.strides, default=0), trainer, imgsz)
        chosen = choose_precisions(trainer, yolos, sample_pictures(data, recipe.teacher_imgsz or imgsz, SAMPLES))
        self.name = ", ".join([name, *dict.fromkeys(map(str, chosen))])
        self.off = "; ".join(str(choice.difference) for choice in chosen if not choice.bearable)
        one = chosen[0].precision if len({choice.precision for choice in chosen}) == 1 else recipe.teacher_precision
        self.recipe = recipe.model_copy(update={"teacher_precision": one})
        self.terms = self._match(trainer, sample_pictures(data, imgsz, 1).to(trainer.device))

    def _open(self, trainer: Any, imgsz: int) -> tuple[Teacher, list[YoloTeacher], str]:
        """Return the teacher, the YOLOs in it, whose precision is to be chosen, and its name."""
        recipe, teachers = trainer.recipe, trainer.teachers
        only = teachers.start if teachers.alone else None
        head = unwrap_model(trainer.model).model[-1]
        needs = needs_of(recipe, head, only.model[-1] if only is not None else None)
        opened = teachers.open(needs, trainer.device, imgsz, teacher_imgsz=recipe.teacher_imgsz)
        if isinstance(opened.teacher, StoredTeacher):
            self.stored = opened.teacher.answers = stored_answers(Path(recipe.teacher), Path(trainer.save_dir).parent)
        return opened.teacher, opened.yolos, opened.name

    def _match(self, trainer: Any, picture: Any) -> Terms:
        """Return the terms, for the classes and levels that teacher and student have in common."""
        recipe, teacher, names = self.recipe, self.teacher, trainer.data["names"]
        dense = isinstance(teacher(picture), DenseAnswer)
        classes = classes_of(recipe, names, teacher).only(taught_names(names, vars(trainer.args)))
        features = bool(self._gains.keys() & set(FEATURE_TERMS))
        require_match(classes, some=recipe.match == "some", features_only_possible=dense and features)
        strides = [int(s) for s in unwrap_model(trainer.model).model[-1].stride]
        # A set is laid out over the student's own anchors.
        levels = Levels.match(strides, teacher.strides if dense else strides)
        if not levels.common:
            raise RequestError(f"teacher and student have no level in common: {levels}")
        projectors = self._make_projectors(trainer, levels).to(trainer.device) if features else nn.ModuleDict()
        rows = ", ".join(f"{name}={gain:g}" for name, gain in self._gains.items())
        LOGGER.info(f"{PREFIX}teacher {recipe.teacher}: {classes}\n{PREFIX}{levels}\n{PREFIX}gains: {rows}")
        if table := classes.table(teacher.names):
            LOGGER.info(table)
        head = unwrap_model(trainer.model).model[-1]
        objects = ObjectTerm(
            head,
            getattr(teacher, "head", None),
            of_set=None if dense else teacher.task,
            sigmas=trainer.data.get("kpt_oks_sigmas"),
        )
        require_comparable(recipe, objects, getattr(head, "kpt_shape", None), teacher.kpt_shape)
        for name in self._gains:
            if TABLE[name].kind == "object" and name != objects.name:
                LOGGER.warning(f"{PREFIX}{name}s are not taught: teacher and student have none in common")
        return Terms(recipe, classes, levels, projectors, maps=teacher.widths, objects=objects)

    def _make_projectors(self, trainer: Any, levels: Levels) -> nn.ModuleDict:
        """Return the projectors of the feature terms, for the levels of which the teacher shows a map."""
        recipe, theirs = self.recipe, self.teacher.widths
        shown = [stride for stride in levels.common if stride in theirs]
        if not shown:
            raise RequestError(
                f"teacher={recipe.teacher}: shows no feature map of stride {', '.join(map(str, levels.common))}; "
                f"use {', '.join(f'{name}=0' for name in self._gains if name in FEATURE_TERMS)}"
            )
        head = unwrap_model(trainer.model).model[-1]
        widths = dict(zip(levels.student, (seq[0].conv.in_channels for seq in head.cv2), strict=True))
        chosen = trainer._chosen if isinstance(self.teacher, YoloTeacher) else None
        common = replace(levels, common=shown)
        return make_projectors(recipe, common, widths, theirs, seed=trainer.args.seed, chosen=chosen)


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


def require_channels_of_teachers(recipe: Recipe, teachers: Teachers, data: Mapping[str, Any]) -> None:
    """Refuse pictures of other channels than a teacher takes that has not yet to learn them."""
    if given := [one for one in teachers.members if not one.trained_first]:
        model = next((teachers.model(one) for one in given if one.ultralytics), None)
        require_channels(3 if model is None else channels_of(model), data, f"teacher={recipe.teacher}")


def require_size(stride: int, trainer: Any, imgsz: int) -> None:
    """Refuse pictures that a teacher with a coarser level than the student's does not take.

    Args:
        stride: of its coarsest level, in pixels.
        trainer: of the run.
        imgsz: side of the pictures in pixels, as the host rounds it.
    """
    args, student = trainer.args, max(int(unwrap_model(trainer.model).stride.max()), 32)
    if stride > student and (imgsz % stride or args.multi_scale or args.rect):
        raise RequestError(
            f"imgsz={imgsz}: the teacher takes multiples of {stride} only; use imgsz={-(-imgsz // stride) * stride}, "
            "multi_scale=0 and rect=False"
        )
