"""How well boxes found in one picture agree with its labels: what is right, what is false, what was missed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ultralytics.utils.metrics import bbox_ioa

from yolo_distill.evaluation.detection_agreement import greedy_pairs

Floats = npt.NDArray[np.float32]

OVERLAP = 0.5


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one picture.

    Attributes:
        xyxy: (N, 4) corners, in pixels.
        classes: (N,) class index.
    """

    xyxy: Floats
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True, eq=False)
class Match:
    """What of the found boxes is right.

    Attributes:
        right: (N,) whether a found box has a label of its class at an overlap (IoU) of 0.5 or more.
        seen: (M,) whether a label was found.
    """

    right: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is nothing and nothing was found."""
        hits = int(self.right.sum())
        total = len(self.right) + len(self.seen)
        return 2 * hits / total if total else 1.0


def match(found: Boxes, labels: Boxes, overlaps: Floats | None = None) -> Match:
    """Give each found box, best first, the free label of its class that it overlaps most.

    By the IoU of boxes, or by other overlaps (N, M).
    """
    right, seen = np.zeros(len(found), bool), np.zeros(len(labels), bool)
    if overlaps is None:
        overlaps = bbox_ioa(found.xyxy, labels.xyxy, iou=True)
    allowed = (overlaps >= OVERLAP) & (found.classes[:, None] == labels.classes[None, :])
    for place, label in greedy_pairs(overlaps, allowed):
        right[place] = seen[label] = True
    return Match(right, seen)


def read_labels(file: Path, height: int, width: int, *, keypoints: bool = False) -> Boxes:
    """Return the boxes of a label file; of an outline its bounding box. No file means no boxes.

    With `keypoints` those follow each box in its row.
    """
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    rows = [row[:5] if keypoints else row for row in rows if len(row) >= 5]
    corners = []
    for row in rows:
        numbers = np.asarray(row[1:], np.float32)
        points = numbers[: len(numbers) // 2 * 2].reshape(-1, 2)
        if len(row) == 5:
            centre, size = points
            points = np.stack([centre - size / 2, centre + size / 2])
        corners.append(np.concatenate([points.min(axis=0), points.max(axis=0)]) * ([width, height] * 2))
    classes = [float(row[0]) for row in rows]
    if not np.isfinite(corners).all() or any(abs(number) > 1e9 for number in classes):
        raise ValueError("a number is none, or too large")
    return Boxes(np.asarray(corners, np.float32).reshape(-1, 4), np.asarray(classes, float).astype(np.int64))
