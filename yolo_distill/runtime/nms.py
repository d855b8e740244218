"""Greedy non-maximum suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_distill.runtime.letterbox import Floats

# Boxes of different classes are moved this far apart, so that one pass serves all classes. The host adds the same
# number in float32; a different one would round the overlaps differently.
_CLASS_OFFSET = np.float32(7680)


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
    boxes = xyxy if agnostic else xyxy + class_id[:, None].astype(np.float32) * _CLASS_OFFSET
    x1, y1, x2, y2 = boxes[order].T
    area = (x2 - x1) * (y2 - y1)
    kept: list[int] = []
    left = np.arange(len(order))
    # One round per box that stays, not per candidate; each round is vectorised over all that are left.
    with np.errstate(invalid="ignore", divide="ignore"):
        while len(left) and len(kept) < limit:
            best, left = left[0], left[1:]
            kept.append(int(best))
            wide = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left])
            tall = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
            shared = np.maximum(wide, 0) * np.maximum(tall, 0)
            overlap = shared / (area[best] + area[left] - shared)
            # Compared in float64, as torchvision does: an overlap of 0.6 in float32 is more than 0.6.
            # Two boxes without area have no overlap (0 / 0): both stay.
            left = left[~(overlap.astype(np.float64) > iou)]
    return order[np.array(kept, np.int64)].astype(np.int64, copy=False)
