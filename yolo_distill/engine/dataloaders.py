"""Which pictures a distillation run sees, and how large teacher and student see them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.nn.functional import interpolate
from ultralytics.utils import LOGGER, RANK, colorstr

from yolo_distill.data.mixed_batches import MixedPictures, mix
from yolo_distill.data.stored_answers import take_stored_boxes, with_stored_boxes
from yolo_distill.data.unlabelled import gather_unlabelled
from yolo_distill.engine.temporarily import temporarily
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.larger import LARGE
from yolo_distill.teachers.stored import StoredAnswers

PREFIX = colorstr("distill: ")


class TrainingPictures:
    """What a recipe changes about the pictures of a run."""

    def __init__(self, recipe: Recipe, stored: StoredAnswers | None = None) -> None:
        self._recipe, self._stored = recipe, stored

    def build(self, trainer: Any, build: Callable[[str], Any], path: str) -> Any:
        """Return the host's data set as the recipe wants it.

        Of larger pictures (`teacher_imgsz`), with stored answers among its labels, or with unlabelled pictures behind
        it.

        Relies on: the host's data set takes size and share of its pictures from `args`, once.
        """
        recipe, args = self._recipe, trainer.args
        with temporarily(args, imgsz=recipe.teacher_imgsz or args.imgsz):
            parts = [build(path)]
            if recipe.unlabeled:
                folder = gather_unlabelled(recipe, trainer.data, Path(trainer.save_dir).parent)
                # The host would warn that there are no labels, where there are meant to be none.
                with temporarily(args, fraction=1.0), temporarily(LOGGER, disabled=True):
                    parts.append(build(str(folder)))
        if self._stored is not None:
            parts = with_stored_boxes(parts, self._stored, trainer.data["nc"])
        return MixedPictures(*parts) if len(parts) > 1 else parts[0]

    def mix(self, trainer: Any, loader: Any) -> None:
        """Let a loader of labelled and unlabelled pictures mix both in every batch."""
        if isinstance(loader.dataset, MixedPictures):
            ratio, seed = self._recipe.unlabeled_ratio, int(trainer.args.seed)
            sampler = mix(loader, ratio, rank=RANK, world=trainer.world_size, seed=seed)
            LOGGER.info(
                f"{PREFIX}{len(loader.dataset.unlabelled)} unlabelled pictures, taught by the teacher alone; "
                f"{sampler.share} of a batch of {loader.batch_size} are labelled"
            )

    def iterations(self, trainer: Any, planned: int) -> int:
        """Return the optimizer steps by which the host chooses an optimizer.

        By how much an epoch shows, not by how many unlabelled pictures there are to draw from.
        """
        loader = trainer.train_loader
        if not isinstance(loader.dataset, MixedPictures):
            return planned
        shown = len(loader.sampler) * max(trainer.world_size, 1)
        return math.ceil(shown / max(trainer.batch_size, trainer.args.nbs)) * int(trainer.epochs)

    def split(self, trainer: Any, batch: dict[str, Any]) -> None:
        """Take stored answers out of the labels; reduce pictures for the student that the teacher sees larger."""
        if self._stored is not None:
            take_stored_boxes(batch, trainer.data["nc"])
        if side := self._recipe.teacher_imgsz:
            batch[LARGE] = batch["img"]
            size = [round(length * trainer.args.imgsz / side) for length in batch["img"].shape[-2:]]
            batch["img"] = interpolate(batch["img"], size, mode="bilinear", antialias=True)
