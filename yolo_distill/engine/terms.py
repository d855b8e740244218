"""The distillation terms of a batch: which tensors of teacher and student go into which loss.

Teaching goes branch to branch: one-to-many from one-to-many, and one-to-one from one-to-one at the teacher's peaks
only. Dense one-to-many answers never reach the one-to-one branch: they would teach it to answer twice for an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from yolo_distill.engine.classes import ClassMatch
from yolo_distill.losses.cwd import cwd_loss
from yolo_distill.losses.localization import bins_loss, distance_loss, iou_loss
from yolo_distill.losses.logit import confidence, logit_loss
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch

#: Share of the box term that the side distributions (or distances) have beside the boxes, as dfl has beside box in the
#: host's own gains (1.5 / 7.5).
SIDES = 0.2
#: Overlap above which a weaker answer of the teacher is a repetition, the host's own default for NMS.
SAME_OBJECT = 0.7


@dataclass(frozen=True)
class Levels:
    """Feature levels of student and teacher, matched by stride.

    Attributes:
        common: strides that both have, in pixels, in the student's order.
        student: all strides of the student.
        teacher: all strides of the teacher.
    """

    common: list[int]
    student: list[int]
    teacher: list[int]

    @classmethod
    def match(cls, student: Sequence[int], teacher: Sequence[int]) -> Levels:
        """Match two heads' strides."""
        return cls([s for s in student if s in set(teacher)], list(student), list(teacher))

    def __str__(self) -> str:
        text = f"levels of stride {', '.join(map(str, self.common)) or 'none'}"
        for who, strides in (("student", self.student), ("teacher", self.teacher)):
            if extra := [s for s in strides if s not in self.common]:
                text += f"; stride {', '.join(map(str, extra))} of the {who} left out"
        return text

    def anchors(self, answer: DenseAnswer, strides: Sequence[int]) -> Tensor | None:
        """Return the indices of the anchors on common levels; None when that is all of them."""
        if list(strides) == self.common:
            return None
        sizes = {stride: m.shape[-2] * m.shape[-1] for stride, m in answer.maps.items()}
        starts = {stride: sum(sizes[s] for s in strides[:i]) for i, stride in enumerate(strides)}
        device = answer.one2many.logits.device
        return torch.cat([torch.arange(starts[s], starts[s] + sizes[s], device=device) for s in self.common])

    def keep(self, answer: DenseAnswer, strides: Sequence[int]) -> DenseAnswer:
        """Return the answer reduced to the common levels."""
        index = self.anchors(answer, strides)
        if index is None:
            return answer
        single = answer.one2one.take(index) if answer.one2one else None
        return DenseAnswer(answer.one2many.take(index), single, {s: answer.maps[s] for s in self.common})


class Terms:
    """Computes the terms of a recipe for a pair of answers.

    Args:
        recipe: gains and their settings.
        classes: which class columns correspond.
        levels: which levels correspond.
        projectors: by stride (as text), from the student's to the teacher's channels; empty without a feature term.
    """

    def __init__(self, recipe: Recipe, classes: ClassMatch, levels: Levels, projectors: nn.ModuleDict) -> None:
        self.recipe, self.classes, self.levels, self.projectors = recipe, classes, levels, projectors

    def __call__(
        self, student: DenseAnswer, teacher: DenseAnswer, many: float, single: float, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return each term times its gain, by name; gradients reach the student and the projectors only.

        Args:
            student: the student's answer, with graph.
            teacher: the teacher's answer to the same pictures.
            many: weight of the student's one-to-many branch in the task's own loss.
            single: weight of its one-to-one branch.
            size: height and width of the pictures in pixels.
        """
        gains = self.recipe.gains
        student = self.levels.keep(student, self.levels.student)
        teacher = self.levels.keep(teacher, self.levels.teacher)
        terms = {name: student.one2many.logits.new_zeros((), dtype=torch.float32) for name in gains}

        branches: list[tuple[float, DenseBranch, DenseBranch, Tensor | None]] = [
            (many, student.one2many, teacher.one2many, None)
        ]
        if student.one2one is not None:
            source = teacher.one2one or teacher.one2many
            branches.append((single, student.one2one, source, self._peaks(teacher)))
        for weight, learner, source, mask in branches:
            if not weight or not self.classes.matched:
                continue
            ours = learner.logits[..., self.classes.student].float()
            theirs = source.logits[..., self.classes.teacher].float()
            if "logit" in gains:
                terms["logit"] = terms["logit"] + weight * logit_loss(ours, theirs, mask, self.recipe.logit_gamma)
            if "localization" in gains:
                score = confidence(theirs)
                taught = (score > self.recipe.box_floor) & (mask if mask is not None else True)
                terms["localization"] = terms["localization"] + weight * self._boxes(
                    learner, source, score, taught, size
                )
        if "cwd" in gains:
            for stride in self.levels.common:
                # Under autocast the maps come in half precision; projectors and losses are in single.
                projected = self.projectors[str(stride)](student.maps[stride].float())
                loss = cwd_loss(projected, teacher.maps[stride].float(), self.recipe.cwd_tau)
                terms["cwd"] = terms["cwd"] + loss / len(self.levels.common)
        return {name: gains[name] * term for name, term in terms.items()}

    @staticmethod
    def _boxes(
        student: DenseBranch, teacher: DenseBranch, score: Tensor, taught: Tensor, size: tuple[int, int]
    ) -> Tensor:
        picture, anchor = taught.nonzero(as_tuple=True)
        weight = score[picture, anchor]
        sides, distances, boxes = student.at(picture, anchor)
        their_sides, their_distances, their_boxes = teacher.at(picture, anchor)
        loss = iou_loss(boxes, their_boxes, weight)
        if student.reg_max == 1:
            height, width = size
            scale = distances.new_tensor([width, height, width, height])
            loss = loss + SIDES * distance_loss(distances / scale, their_distances / scale, weight)
        elif student.reg_max == teacher.reg_max:
            loss = loss + SIDES * bins_loss(sides, their_sides, weight)
        return loss

    def _peaks(self, teacher: DenseAnswer) -> Tensor:
        """Return which anchors hold the teacher's one answer for an object, bool, shape (B, A).

        A one-to-one branch answers once by its training. Of a dense branch it is what survives NMS, class by class.
        """
        branch = teacher.one2one or teacher.one2many
        logits = branch.logits[..., self.classes.teacher].float()
        score = confidence(logits)
        taught = score > self.recipe.box_floor
        if teacher.one2one is not None or not self.classes.matched:
            return taught
        picture, anchor = taught.nonzero(as_tuple=True)
        boxes = branch.at(picture, anchor)[2]
        groups = picture * logits.shape[-1] + logits[picture, anchor].argmax(-1)
        kept = batched_nms(boxes, score[picture, anchor], groups, SAME_OBJECT)
        peaks = torch.zeros_like(taught)
        peaks[picture[kept], anchor[kept]] = True
        return peaks


def make_projectors(levels: Levels, student: dict[int, int], teacher: dict[int, int], *, seed: int) -> nn.ModuleDict:
    """Return one linear 1x1 projector a common level, from the student's to the teacher's channels.

    Args:
        levels: matched levels.
        student: channels of the student's map at each stride.
        teacher: channels of the teacher's.
        seed: of their initial weights; the global random state stays as it is, so that a run with projectors sees the
            same pictures in the same order as one without.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed the GPUs as well
        return nn.ModuleDict({str(s): nn.Conv2d(student[s], teacher[s], 1, bias=False) for s in levels.common})
