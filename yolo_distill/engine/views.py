"""A fixed number of augmented views of each picture, in turn, instead of a new one each time.

Relies on: the host's data set and its transforms draw from `random` and `numpy.random`, and `build_transforms` makes
all of them. What draws from elsewhere makes a view that does not come again, which costs time and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.data import YOLODataset

from yolo_distill.errors import RequestError


class ViewsInTurn(YOLODataset):
    """The host's data set, augmenting a picture by its index and the number of the view, not by chance."""

    views: int
    seed: int
    _view: Tensor

    @classmethod
    def of(cls, dataset: YOLODataset, views: int, seed: int) -> ViewsInTurn:
        """Change a data set of the host into one of this kind, and return it.

        Raises:
            RequestError: it is of another kind than those the host makes for detection.
        """
        if type(dataset) is not YOLODataset:
            raise RequestError(f"views={views}: not for a {type(dataset).__name__}; leave views out")
        dataset.__class__ = cls
        dataset.views, dataset.seed = views, seed
        dataset._view = torch.zeros(1, dtype=torch.int64)
        dataset._view.share_memory_()  # the loader's workers read it, too
        draw_from_all(dataset.transforms)
        return dataset

    def start_epoch(self, epoch: int) -> None:
        """Show the next view."""
        self._view[0] = epoch % self.views

    def build_transforms(self, hyp: Any = None) -> Any:
        """Build the host's transforms, and let mosaics draw from all pictures rather than from the latest few."""
        transforms = super().build_transforms(hyp)
        draw_from_all(transforms)
        return transforms

    def __getitem__(self, index: int) -> dict[str, Any]:
        before = random.getstate(), np.random.get_state()
        seed = (self.seed * 1_000_003 + index) * 1009 + int(self._view[0])
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            return super().__getitem__(index)
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def draw_from_all(transforms: Any) -> None:
    """Switch the buffer of recent pictures off in every mosaic: what is in it depends on what came before."""
    for transform in walk_transforms(transforms):
        if hasattr(transform, "buffer_enabled"):
            transform.buffer_enabled = False


def walk_transforms(transforms: Any) -> Iterator[Any]:
    """Yield every transform of the host's, also those inside others."""
    for transform in getattr(transforms, "transforms", []):
        yield transform
        yield from walk_transforms(transform)
        yield from walk_transforms(getattr(transform, "pre_transform", None))
