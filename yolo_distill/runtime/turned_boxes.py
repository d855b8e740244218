"""Turned boxes: centre x, centre y, width, height, and the angle in radians, clockwise as a picture shows it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_distill.runtime.letterbox import Floats
from yolo_distill.runtime.nms import CLASS_OFFSET

_BLOCK = 128  # candidates that are compared with all better ones at a time
_EPS = np.float32(1e-7)


def corners(xywhr: Floats) -> Floats:
    """Return the corners (N, 4, 2) of boxes (N, 5), in the order in which the host has them."""
    centre, half, angle = xywhr[:, :2], xywhr[:, 2:4] / 2, xywhr[:, 4:]
    cos, sin = np.cos(angle), np.sin(angle)
    along = half[:, :1] * np.concatenate([cos, sin], 1)
    across = half[:, 1:] * np.concatenate([-sin, cos], 1)
    return np.stack(
        [centre + along + across, centre + along - across, centre - along - across, centre - along + across], 1
    )


def upright(xywhr: Floats, picture: tuple[int, int]) -> Floats:
    """Return the upright boxes (N, 4) around turned ones, cut off at the borders of a picture (height, width)."""
    points = corners(xywhr)
    limit = np.array(picture[::-1] * 2, np.float32)
    return np.clip(np.concatenate([points.min(1), points.max(1)], 1), np.float32(0), limit)


def turned_nms(
    xywhr: Floats,
    scores: Floats,
    class_id: npt.NDArray[np.int64],
    *,
    iou: float,
    limit: int,
    agnostic: bool = False,
) -> npt.NDArray[np.int64]:
    """Return the indices of the turned boxes that stay, best first.

    As in the host, a box goes if *any* better one overlaps it by more than `iou`, even one that goes itself, and the
    overlap is that of two normal distributions. The arguments are those of `nms.nms`.
    """
    order = np.argsort(-scores, kind="stable")
    boxes = xywhr.copy()
    if not agnostic:
        boxes[:, :2] += class_id[:, None].astype(np.float32) * CLASS_OFFSET
    normals = _normals(boxes[order])
    threshold = np.float32(iou)
    kept: list[int] = []
    for start in range(0, len(order), _BLOCK):
        end = min(start + _BLOCK, len(order))
        better = np.arange(end)[:, None] < np.arange(start, end)
        covered = (_overlap(normals[:, :end], normals[:, start:end]) > threshold) & better
        kept += (start + np.flatnonzero(~covered.any(0))).tolist()
        if len(kept) >= limit:
            break
    return order[kept[:limit]].astype(np.int64, copy=False)


def _normals(xywhr: Floats) -> Floats:
    """Return x, y and the three numbers of the covariance, (5, N), of boxes (N, 5) taken for uniform distributions."""
    x, y, width, height, angle = xywhr.T
    a, b = width * width / np.float32(12), height * height / np.float32(12)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x, y, a * cos * cos + b * sin * sin, a * sin * sin + b * cos * cos, (a - b) * cos * sin])


def _overlap(some: Floats, others: Floats) -> Floats:
    """Return 1 - the Hellinger distance, (N, M), of normal distributions (5, N) and (5, M).

    Source: Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection,
    https://arxiv.org/abs/2106.06072.
    """
    x1, y1, a1, b1, c1 = some[:, :, None]
    x2, y2, a2, b2, c2 = others[:, None, :]
    a, b, c, dx, dy = a1 + a2, b1 + b2, c1 + c2, x2 - x1, y1 - y2
    determinant = a * b - c * c
    distance = (a * dy * dy + b * dx * dx) / (determinant + _EPS) / 4
    distance += c * dx * dy / (determinant + _EPS) / 2
    own = np.maximum(a1 * b1 - c1 * c1, 0) * np.maximum(a2 * b2 - c2 * c2, 0)
    distance += np.log(determinant / (4 * np.sqrt(own) + _EPS) + _EPS) / 2
    return 1 - np.sqrt(1 - np.exp(-np.clip(distance, _EPS, 100)) + _EPS)
