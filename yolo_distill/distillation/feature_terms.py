"""The feature terms of a batch: the neck's maps of both sides, level by level, through the projectors into the losses.

`cwd`, `pkd` and `mgd` are means over the levels. `mimic` is their sum, as Ultralytics' own distillation is, so that
`mimic=6` with `mimic_weight=score mimic_projector=mlp` is its `dis=6`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch
from torch import Tensor, nn

from yolo_distill.losses.cwd import cwd_loss
from yolo_distill.losses.logit import confidence
from yolo_distill.losses.mgd import Generator, hide_places, mgd_loss
from yolo_distill.losses.mimic import mimic_loss
from yolo_distill.losses.pkd import pkd_loss
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.answer import DenseAnswer
from yolo_distill.vocabulary import FEATURE_TERMS


class FeatureTerms:
    """Computes the feature terms of a recipe.

    Args:
        recipe: which terms, and their settings.
        strides: of the levels that both sides have, in pixels.
        projectors: see `yolo_distill.distillation.projectors.make_projectors`.
    """

    def __init__(self, recipe: Recipe, strides: Sequence[int], projectors: nn.ModuleDict) -> None:
        self.recipe, self.strides, self.projectors = recipe, strides, projectors

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
        names = [name for name in FEATURE_TERMS if name in active]
        scores = score_maps(teacher) if "mimic" in names and self.recipe.mimic_weight == "score" else {}
        terms = {}
        for name in names:
            levels = []
            for level, stride in enumerate(self.strides):
                # Under autocast the maps come in half precision; projectors and losses are in single.
                ours, theirs = student.maps[stride].float(), teacher.maps[stride].float()
                projector = self.projectors[f"{name}_{stride}"]
                if isinstance(projector, Generator):
                    hidden = hide_places(ours, self.recipe.mgd_mask, seed=step * len(self.strides) + level)
                    levels.append(mgd_loss(ours, theirs, projector, hidden))
                else:
                    levels.append(self._level(name, projector(ours), theirs, scores.get(stride)))
            total = torch.stack(levels).sum()
            terms[name] = total if name == "mimic" else total / len(levels)
        return terms

    def _level(self, name: str, projected: Tensor, theirs: Tensor, scores: Tensor | None) -> Tensor:
        if name == "cwd":
            return cwd_loss(projected, theirs, self.recipe.cwd_tau)
        if name == "pkd":
            return pkd_loss(projected, theirs)
        return mimic_loss(projected, theirs, scores)


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
