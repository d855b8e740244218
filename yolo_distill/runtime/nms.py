"""Greedy non-maximum suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_distill.runtime.letterbox import Floats

# Boxes of different classes are moved this far apart, so that one pass serves all classes. The host adds the same
# number in float32; a different one would round the overlaps differently.
CLASS_OFFSET = np.float32(7680)

_BLOCK = 64  # candidates that are compared with each other at a time


def nms(
    xyxy: Floats,
    scores: Floats,
    class_id: npt.NDArray[np.int64],
    *,
    iou: float,
    limit: int,
    agnostic: bool = False,
) -> npt.NDArray[np.int64]:
    """Return the indices of the boxes that stay, best first.

    A box goes if it overlaps a better one that stays by more than `iou`; of equal scores the earlier box is better.

    Args:
        xyxy: (N, 4) corners in pixels.
        scores: (N,).
        class_id: (N,); boxes of different classes leave each other alone.
        iou: intersection over union, 0 to 1.
        limit: most boxes to return; the search ends there.
        agnostic: whether boxes of different classes suppress each other as well.
    """
    order = np.argsort(-scores, kind="stable")
    boxes = xyxy if agnostic else xyxy + class_id[:, None].astype(np.float32) * CLASS_OFFSET
    corners = boxes[order].T
    threshold = _at_most(iou)
    left = np.arange(len(order))
    kept = left[:0]
    # The best of those that are left are settled among themselves; then what they cover goes from all others at once.
    while len(left) and len(kept) < limit:
        block, left = left[:_BLOCK], left[_BLOCK:]
        stay = block[_settle(_overlap(corners[:, block], corners[:, block]) > threshold)]
        kept = np.concatenate([kept, stay])
        left = left[~(_overlap(corners[:, stay], corners[:, left]) > threshold).any(0)]
    return order[kept[:limit]].astype(np.int64, copy=False)


def _overlap(some: Floats, others: Floats) -> Floats:
    """Return intersection over union, (N, M), of boxes (4, N) and (4, M); nan where both are without area."""
    x1, y1, x2, y2 = some[:, :, None]
    a1, b1, a2, b2 = others[:, None, :]
    wide = np.minimum(x2, a2)
    wide -= np.maximum(x1, a1)
    tall = np.minimum(y2, b2)
    tall -= np.maximum(y1, b1)
    shared = np.maximum(wide, 0, out=wide)
    shared *= np.maximum(tall, 0, out=tall)
    union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1)
    union -= shared
    # Two boxes without area have no overlap (0 / 0): both stay.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(shared, union, out=shared)


def _settle(covers: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which boxes stay where `covers[i, j]` says that i, if it stays, covers j; the first is the best."""
    stays = np.ones(len(covers), np.bool_)
    for place, row in enumerate(~covers):
        if stays[place]:
            stays[place + 1 :] &= row[place + 1 :]
    return stays


def _at_most(number: float) -> np.float32:
    """Return the largest float32 that is not above `number`.

    Overlaps are compared as torchvision does, in float64: an overlap of 0.6 in float32 is more than 0.6. A float32 is
    above `number` exactly if it is above this one.
    """
    nearest = np.float32(number)
    return nearest if float(nearest) <= number else np.nextafter(nearest, np.float32(-np.inf))
