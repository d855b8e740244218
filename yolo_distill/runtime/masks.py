"""Masks of objects: kept as the piece inside the box, and laid out as pictures or outlines when asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from yolo_distill.runtime.letterbox import Floats, Transform, fit

Bits = npt.NDArray[np.bool_]


class Piece(NamedTuple):
    """A mask inside its box.

    Attributes:
        top: row of the picture that its first row lies on.
        left: likewise its first column.
        bits: (height, width), True where the object is.
    """

    top: int
    left: int
    bits: Bits


@dataclass(frozen=True, eq=False, repr=False)
class Masks:
    """The masks of N objects, in pixels of the picture.

    Attributes:
        pieces: of each object the part of the picture that its box shows.
        orig_shape: height and width of the picture.
    """

    pieces: Sequence[Piece]
    orig_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, which: Any) -> Masks:
        places = np.atleast_1d(np.arange(len(self))[which])
        return Masks([self.pieces[place] for place in places], self.orig_shape)

    def __repr__(self) -> str:
        return f"Masks({len(self)} of {self.orig_shape[0]}x{self.orig_shape[1]})"

    @property
    def data(self) -> Bits:
        """(N, height, width) of the whole picture, True where the object is; made anew at each call."""
        whole = np.zeros((len(self), *self.orig_shape), np.bool_)
        for canvas, (top, left, bits) in zip(whole, self.pieces, strict=True):
            canvas[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
        return whole

    @property
    def xy(self) -> list[Floats]:
        """The outline of each object, (K, 2) in pixels; parts that lie apart are joined by lines without width."""
        return [_outline(piece) for piece in self.pieces]

    @property
    def xyn(self) -> list[Floats]:
        """`xy` relative to the picture's width and height, 0 to 1."""
        size = np.array(self.orig_shape[::-1], np.float32)
        return [outline / size for outline in self.xy]

    def to_rle(self) -> list[dict[str, Any]]:
        """Return each mask run-length encoded as COCO has it: `size` and, as text, `counts`; pycocotools reads it."""
        return [{"size": list(self.orig_shape), "counts": _counts(one, self.orig_shape)} for one in self.pieces]


def piece_of(outline: Floats) -> Piece:
    """Return the mask inside an outline (K, 2), of one point or more, in pixels."""
    points = np.rint(outline).astype(np.int32)
    left, top = points.min(0).tolist()
    points -= (left, top)
    bits = np.zeros(points.max(0)[::-1] + 1, np.uint8)
    cv2.fillPoly(bits, [points], 1)
    return Piece(top, left, bits.astype(np.bool_))


def mask_iou(one: Piece, other: Piece) -> float:
    """Return intersection over union of two masks; 0 where both are empty."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    cut = [piece.bits[top - piece.top :, left - piece.left :] for piece in (one, other)]
    rows, columns = (min(part.shape[axis] for part in cut) for axis in (0, 1))
    shared = int((cut[0][:rows, :columns] & cut[1][:rows, :columns]).sum())
    union = int(one.bits.sum()) + int(other.bits.sum()) - shared
    return shared / union if union else 0.0


def decode_masks(weights: Floats, protos: Floats, xyxy: Floats, transform: Transform) -> Masks:
    """Return the masks of objects, as the host makes them at the picture's own size (its `retina_masks=True`).

    A mask is the weighed sum of prototypes, enlarged to the picture, above 0, and cut off at the box. It is enlarged
    inside the box alone: the rows and columns of a bilinear enlargement are two matrices, of which a part will do.

    Args:
        weights: (N, M).
        protos: (M, height, width).
        xyxy: (N, 4) corners in pixels of the picture.
        transform: how the picture lies in the input.

    Raises:
        FloatingPointError: a number is nan or infinite.
    """
    count, tall, wide = protos.shape
    sums = (weights @ protos.reshape(count, -1)).reshape(-1, tall, wide)
    if not np.isfinite(sums.sum()):
        raise FloatingPointError("nan or infinity in the network's masks")
    rows, columns = _enlargements((tall, wide), transform.picture)
    pieces = []
    for one, box in zip(sums, xyxy.tolist(), strict=True):
        # A pixel is inside if its number is: the first at or behind the left side, the last before the right one.
        left, top, right, bottom = map(math.ceil, box)
        down, across = rows[top:bottom], columns[left:right]
        if not down.size or not across.size:
            pieces.append(Piece(top, left, np.zeros((0, 0), np.bool_)))
            continue
        (first, last), (start, end) = _reach(down), _reach(across)
        bits = down[:, first:last] @ one[first:last, start:end] @ across[:, start:end].T > 0
        pieces.append(Piece(top, left, bits))
    return Masks(pieces, transform.picture)


@lru_cache(maxsize=16)
def _enlargements(protos: tuple[int, int], picture: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the matrices that enlarge rows and columns of prototypes to a picture; sizes are (height, width).

    Relies on: prototypes have a quarter of the input's sides, and the host enlarges them just so far that the padding
    can be cut off at whole numbers before it enlarges what is left to the picture.
    """
    tall, wide = fit(picture, (4 * protos[0], 4 * protos[1])).resized
    both = (4 * protos[0] - tall) | (4 * protos[1] - wide)  # padding
    factor = 4 // math.gcd(4, both | both // 2)
    inside = fit(picture, (factor * protos[0], factor * protos[1])).inside
    rows, columns = (
        _enlarged(_enlarged(np.eye(side, dtype=np.float32), factor * side)[cut], whole)
        for side, cut, whole in zip(protos, inside, picture, strict=True)
    )
    return rows, columns


def _enlarged(rows: Floats, count: int) -> Floats:
    """Return `count` rows between the given ones, bilinear, with the middles of pixels on each other."""
    place = np.maximum((np.arange(count) + 0.5) * (len(rows) / count) - 0.5, 0)
    before = place.astype(np.int64)
    behind = np.minimum(before + 1, len(rows) - 1)
    share = (place - before).astype(np.float32)[:, None]
    return rows[before] * (1 - share) + rows[behind] * share


def _reach(matrix: Floats) -> tuple[int, int]:
    """Return from where to where the columns of some rows of an enlargement are not all zero."""
    return int(matrix[0].nonzero()[0][0]), int(matrix[-1].nonzero()[0][-1]) + 1


def _outline(piece: Piece) -> Floats:
    """Return the outlines of a mask's parts as one, the largest first; (0, 2) of an empty one."""
    found, _ = cv2.findContours(piece.bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = sorted((one.reshape(-1, 2) for one in found), key=cv2.contourArea, reverse=True)
    whole = parts[0] if parts else np.zeros((0, 2), np.int32)
    for part in parts[1:]:
        gaps = ((whole[:, None] - part) ** 2).sum(2)
        here, there = np.unravel_index(gaps.argmin(), gaps.shape)
        # There and back over the shortest bridge.
        whole = np.concatenate([whole[: here + 1], part[there:], part[: there + 1], whole[here:]])
    return (whole + (piece.left, piece.top)).astype(np.float32)


def _counts(piece: Piece, size: tuple[int, int]) -> str:
    """Return the lengths of a mask's runs, column by column and first of zeros, in COCO's letters.

    `size` is height and width of the picture, of which only the columns that the mask reaches are laid out.
    """
    (tall, wide), whole = piece.bits.shape, size[0] * size[1]
    columns = np.zeros((wide, size[0]), np.bool_)
    columns[:, piece.top : piece.top + tall] = piece.bits.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + piece.left * size[0]
    runs = np.diff([0, *changes[changes < whole], whole]).tolist()
    letters = []
    for place, run in enumerate(runs):
        # From the fourth on the difference to the one before the last is written; five bits a letter, lowest first.
        number = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            letters.append(chr(48 + (bits | 32 if more else bits)))
    return "".join(letters)
