"""The part of a teacher's head that somebody needs, in place of the whole of it, and the grid of its anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import OBB, Detect, Proto
from ultralytics.utils.tal import make_anchors

#: Strides of the levels that YOLO heads have, finest first.
KNOWN = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32, 64))

#: Height and width of pictures in pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class Needs:
    """What a teacher is asked for: class logits, side outputs, both of the one-to-one branch as well, the neck's maps.

    `extra` is what a head has beside these: mask coefficients and prototypes, keypoints, or angles.

    What is not needed is not computed.
    """

    scores: bool = True
    boxes: bool = True
    one2one: bool = True
    maps: bool = True
    extra: bool = False


class NeededHead(nn.Module):
    """Stands where the host's `Detect` stood and gives the raw outputs that are needed, by name.

    Names are `scores`, `boxes` and `extra` for the one-to-many branch, `one2one_scores` and so on for the other,
    `proto` for the prototypes of masks, and `map8`, `map16`, ... for the maps: flat, so that an exported file has the
    same outputs under the same names.
    """

    def __init__(self, head: Detect, needs: Needs) -> None:
        """Take over what is needed of `head`.

        Relies on: `cv2`, `cv3` and their `one2one_` copies hold one small network a level, whose outputs the host
        concatenates over the levels; so do `cv4` and, behind it in the pose head of 26, `cv4_kpts`; `proto` makes the
        prototypes of the finest map, in 26 of all maps. `f` and `i` say where a layer stands in the model.
        """
        super().__init__()
        self.f, self.i = head.f, head.i
        self.strides, self.maps = [int(s) for s in head.stride], needs.maps
        branches = [""] if getattr(head, "one2one_cv2", None) is None or not needs.one2one else ["", "one2one_"]
        layers = {"scores": "cv3"} if needs.scores else {}
        layers |= {"boxes": "cv2"} if needs.boxes else {}
        self.outputs = nn.ModuleDict(
            {f"{branch}{name}": getattr(head, f"{branch}{own}") for branch in branches for name, own in layers.items()}
        )
        self.proto = getattr(head, "proto", None) if needs.extra else None
        self._angles = type(head) is OBB  # that of 26 gives them as they are
        if needs.extra and hasattr(head, "cv4"):
            for branch in branches:
                parts = [getattr(head, f"{branch}{name}", None) for name in ("cv4", "cv4_kpts")]
                levels = zip(*(part for part in parts if part is not None), strict=True)
                self.outputs[f"{branch}extra"] = nn.ModuleList(nn.Sequential(*level) for level in levels)

    @property
    def names(self) -> list[str]:
        """Names of the outputs, in their order."""
        proto = [] if self.proto is None else ["proto"]
        return [*self.outputs, *proto, *(f"map{stride}" for stride in self.strides if self.maps)]

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Return outputs of shape (B, channels, A), and maps as they come."""
        found = {}
        for name, layers in self.outputs.items():
            assert isinstance(layers, nn.ModuleList)
            found[name] = torch.cat([layer(m).flatten(2) for layer, m in zip(layers, maps, strict=True)], -1)
            if self._angles and name.endswith("extra"):
                found[name] = (found[name].sigmoid() - 0.25) * math.pi
        if self.proto is not None:
            proto = self.proto(maps[0] if type(self.proto) is Proto else maps)
            found["proto"] = proto[0] if isinstance(proto, tuple) else proto
        return found | {f"map{stride}": m for stride, m in zip(self.strides, maps, strict=True) if self.maps}


def cells(size: Size, strides: Sequence[int]) -> dict[int, int]:
    """Return the anchors of each level, by stride, for pictures of a size."""
    return {stride: -(-size[0] // stride) * -(-size[1] // stride) for stride in strides}


def strides_of(size: Size, anchors: int) -> list[int]:
    """Return the strides of the known head that has so many anchors at this size; none where there is no such head."""
    return next((list(strides) for strides in KNOWN if sum(cells(size, strides).values()) == anchors), [])


def points(size: Size, strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return anchor points (A, 2) in grid units and the stride of each (A, 1), in the order of a head's outputs."""
    grids = [torch.empty(1, 1, -(-size[0] // s), -(-size[1] // s), device=device) for s in strides]
    anchors, own = make_anchors(grids, list(map(float, strides)), grid_cell_offset=0.5)
    return anchors, own
