"""Which pictures a distillation run sees, and how large teacher and student see them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.nn.functional import interpolate
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.data.mixed_batches import MixedPictures, mix
from yolo_distill.data.stored_answers import take_told, told_pictures
from yolo_distill.data.unlabelled import gather_unlabelled
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.larger import LARGE
from yolo_distill.teachers.stored import StoredAnswers

PREFIX = colorstr("distill: ")


class RunPictures:
    """Mixin for a host trainer that distils."""

    args: Any
    batch_size: int
    data: dict[str, Any]
    epochs: int
    recipe: Recipe
    rounded_imgsz: int
    save_dir: Path
    train_loader: Any
    world_size: int
    _stored: StoredAnswers | None = None

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build the host's data set, as the recipe wants it.

        Of larger pictures (`teacher_imgsz`), with stored answers among its labels, or with unlabelled pictures behind
        it.

        Relies on: the host's data set takes size and share of its pictures from `args`, once.
        """
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        recipe = self.recipe
        with _set(self.args, imgsz=recipe.teacher_imgsz or self.args.imgsz):
            parts = [super().build_dataset(img_path, mode, batch)]  # type: ignore[misc]
            if recipe.unlabeled:
                folder = gather_unlabelled(recipe, self.data, Path(self.save_dir).parent)
                with _set(self.args, fraction=1.0), _without_warnings():
                    parts.append(super().build_dataset(str(folder), mode, batch))  # type: ignore[misc]
        if self._stored is not None:
            parts = told_pictures(parts, self._stored, self.data["nc"])
        return MixedPictures(*parts) if len(parts) > 1 else parts[0]

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build the host's loader; one of labelled and unlabelled pictures mixes both in every batch."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)  # type: ignore[misc]
        if isinstance(loader.dataset, MixedPictures):
            ratio, seed = self.recipe.unlabeled_ratio, int(self.args.seed)
            sampler = mix(loader, ratio, rank=rank, world=self.world_size, seed=seed)
            LOGGER.info(
                f"{PREFIX}{len(loader.dataset.unlabelled)} unlabelled pictures, taught by the teacher alone; "
                f"{sampler.share} of a batch of {loader.batch_size} are labelled"
            )
        return loader

    def build_optimizer(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the host choose by how much an epoch shows, not by how many unlabelled pictures there are to draw from.

        Relies on: the host gives `iterations`, from the number of its data set's pictures, by name.
        """
        loader = self.train_loader
        if "iterations" in kwargs and isinstance(loader.dataset, MixedPictures):
            shown = len(loader.sampler) * max(self.world_size, 1)
            kwargs["iterations"] = math.ceil(shown / max(self.batch_size, self.args.nbs)) * self.epochs
        return super().build_optimizer(model, *args, **kwargs)  # type: ignore[misc]

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take stored answers out of the labels; reduce pictures for the student that the teacher sees larger."""
        batch = super().preprocess_batch(batch)  # type: ignore[misc]
        if self._stored is not None:
            take_told(batch, self.data["nc"])
        if side := self.recipe.teacher_imgsz:
            batch[LARGE] = batch["img"]
            size = [round(length * self.rounded_imgsz / side) for length in batch["img"].shape[-2:]]
            batch["img"] = interpolate(batch["img"], size, mode="bilinear", antialias=True)
        return batch


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the host from warning that there are no labels, where there are meant to be none."""
    before = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def _set(args: Any, **values: Any) -> Iterator[None]:
    """Set some of the host's arguments for a while."""
    before = {key: getattr(args, key) for key in values}
    vars(args).update(values)
    try:
        yield
    finally:
        vars(args).update(before)
