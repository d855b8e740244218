"""Augmentation by seed, epoch and picture alone, so that a run that goes on sees what it would have seen.

Relies on: the host's data set and its transforms draw from `random` and `numpy.random`, and `build_transforms` makes
all of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.data import YOLODataset

from yolo_distill.data.samples import random_state_kept


class RepeatablePictures(YOLODataset):
    """The host's data set, augmenting a picture by its index and the number of the epoch, not by chance."""

    seed: int
    _epoch: Tensor

    @classmethod
    def of(cls, dataset: YOLODataset, seed: int) -> RepeatablePictures:
        """Change a data set of the host for detection into one of this kind, and return it."""
        dataset.__class__ = cls
        dataset.seed = seed
        dataset._epoch = torch.zeros(1, dtype=torch.int64)
        dataset._epoch.share_memory_()  # the loader's workers read it, too
        _draw_from_all(dataset.transforms)
        return dataset

    def start_epoch(self, epoch: int) -> None:
        """Augment from here on as this epoch does."""
        self._epoch[0] = epoch

    def build_transforms(self, hyp: Any = None) -> Any:
        """Build the host's transforms, and let mosaics draw from all pictures rather than from the latest few."""
        transforms = super().build_transforms(hyp)
        _draw_from_all(transforms)
        return transforms

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = (self.seed * 1_000_003 + index) * 1009 + int(self._epoch[0])
        with random_state_kept():
            random.seed(seed)
            np.random.seed(seed % 2**32)
            return super().__getitem__(index)


def _draw_from_all(transforms: Any) -> None:
    """Switch the buffer of recent pictures off in every mosaic: what is in it depends on what came before."""
    for transform in _all_in(transforms):
        if hasattr(transform, "buffer_enabled"):
            transform.buffer_enabled = False


def _all_in(transforms: Any) -> Iterator[Any]:
    """Yield every transform of the host's, also those inside others."""
    for transform in getattr(transforms, "transforms", []):
        yield transform
        yield from _all_in(transform)
        yield from _all_in(getattr(transform, "pre_transform", None))
