"""The feature terms of a batch: the neck's maps of both sides, level by level, through the projectors into the losses.

A term is the mean over the levels. `mimic` alone is their sum, as Ultralytics' own distillation is, so that `mimic=6`
with `mimic_weight=score mimic_projector=mlp` is its `dis=6`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yolo_distill.losses.logit import confidence
from yolo_distill.losses.mgd import hide_places
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.answer import DenseAnswer
from yolo_distill.terms_table import FEATURE_TERMS, TABLE


class FeatureTerms:
    """Computes the feature terms of a recipe."""

    def __init__(self, recipe: Recipe, strides: Sequence[int], projectors: nn.ModuleDict) -> None:
        self.recipe, self.strides, self.projectors = recipe, strides, projectors
        terms = {name: TABLE[name] for name in FEATURE_TERMS if name in recipe.gains}
        self._losses = {name: term.bind(term.loss, recipe) for name, term in terms.items()}

    def __call__(
        self, active: Container[str], student: DenseAnswer, teacher: DenseAnswer, step: int = 0
    ) -> dict[str, Tensor]:
        """Return the feature terms among `active`, by name and without gain.

        Args:
            active: names of the terms to compute.
            student: the student's answer, with maps; reduced to the common levels.
            teacher: the teacher's, with maps, and with scores where the recipe weighs by them; reduced likewise.
            step: number of the batch, which with the level seeds the masks of mgd: also after a resume.
        """
        names = [name for name in self._losses if name in active]
        weighed = {name for name in names if self._setting(TABLE[name].weighed_by) == "score"}
        scores = score_maps(teacher) if weighed else {}
        terms = {}
        for name in names:
            term, levels = TABLE[name], []
            for level, stride in enumerate(self.strides):
                # Under autocast the maps come in half precision; projectors and losses are in single.
                ours, theirs = student.maps[stride].float(), teacher.maps[stride].float()
                seen = [ours]
                if term.hidden:
                    share = self._setting(term.hidden)
                    seen.append(hide_places(ours, share, seed=step * len(self.strides) + level))
                projected = self.projectors[f"{name}_{stride}"](*seen)
                weight = [scores[stride]] if name in weighed else []
                levels.append(self._losses[name](projected, theirs, *weight))
            total = torch.stack(levels).sum()
            terms[name] = total if term.as_host else total / len(levels)
        return terms

    def _setting(self, name: str | None) -> Any:
        return None if name is None else getattr(self.recipe, name)


def score_maps(teacher: DenseAnswer) -> dict[int, Tensor]:
    """Return the teacher's best class score at each place, shape (B, H, W), by stride.

    As Ultralytics has it: of all the teacher's classes, matched or not, and from the mean of the logits of both
    branches where its head has two. A place counts because something is there, whatever it is called. Where a set says
    it, that is inside of its boxes.
    """
    many, single = teacher.one2many, teacher.one2one
    assert many is not None, "the teacher was not asked for scores"
    presence = teacher.presence
    if presence is None:
        logits = many.logits.float()
        if single is not None:
            logits = (logits + single.logits.float()) / 2
        presence = confidence(logits)
    levels = torch.split(presence, list(teacher.cells.values()), 1)
    return {
        stride: level.reshape(-1, *teacher.maps[stride].shape[-2:])
        for stride, level in zip(teacher.cells, levels, strict=True)
        if stride in teacher.maps
    }
