"""The anchor points of a YOLO head, from the size of a picture alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from ultralytics.utils.tal import make_anchors

#: Strides of the levels that YOLO heads have, finest first.
KNOWN = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32, 64))

Size = tuple[int, int]


def cells(size: Size, strides: Sequence[int]) -> dict[int, int]:
    """Return the anchors of each level, by stride, for pictures of a height and width in pixels."""
    return {stride: -(-size[0] // stride) * -(-size[1] // stride) for stride in strides}


def strides_of(size: Size, anchors: int) -> list[int]:
    """Return the strides of the known head that has so many anchors at this size; none where there is no such head."""
    return next((list(strides) for strides in KNOWN if sum(cells(size, strides).values()) == anchors), [])


def points(size: Size, strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return anchor points (A, 2) in grid units and the stride of each (A, 1), in the order of a head's outputs."""
    grids = [torch.empty(1, 1, -(-size[0] // s), -(-size[1] // s), device=device) for s in strides]
    anchors, own = make_anchors(grids, list(map(float, strides)), grid_cell_offset=0.5)
    return anchors, own
