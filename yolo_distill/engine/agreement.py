"""How far two files find the same objects: what is left to measure where nobody has drawn boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils.metrics import box_iou

from yolo_distill.runtime.detector import Detector

_CONF = 0.25
_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Detections of one file beside those of another on the same pictures, at confidence 0.25.

    Attributes:
        matched: share of all detections, of either file, that have a partner in the other: same class, IoU above 0.5.
        score_gap: mean difference of the scores of partners, 0 to 1.
        detections: how many the first file has.
    """

    matched: float
    score_gap: float
    detections: int


def agreement(file: Path, reference: Path, pictures: Sequence[tuple[str, Any]]) -> Agreement:
    """Compare what two files find.

    A detection on the threshold would count against a file that is right to a hundredth of a score; so partners are
    looked for a little below it.

    Args:
        file: one ONNX file.
        reference: another.
        pictures: names and BGR pictures (H, W, 3).
    """
    one, other = Detector(file), Detector(reference)
    near = 0.8 * _CONF
    found = partners = wanted = 0
    gaps: list[float] = []
    for _, picture in pictures:
        ours, theirs = one(picture, conf=near), other(picture, conf=near)
        pairs = _partners(ours, theirs)
        gaps += [abs(float(ours.confidence[a] - theirs.confidence[b])) for a, b in pairs]
        found += int((ours.confidence > _CONF).sum())
        wanted += int((theirs.confidence > _CONF).sum())
        partners += sum(int(ours.confidence[a] > _CONF) + int(theirs.confidence[b] > _CONF) for a, b in pairs)
    total = found + wanted
    return Agreement(partners / total if total else 1.0, float(np.mean(gaps)) if gaps else 0.0, found)


def _partners(ours: Any, theirs: Any) -> list[tuple[int, int]]:
    """Return pairs of detections of one class that overlap, each detection at most once, best overlap first."""
    if not len(ours) or not len(theirs):
        return []
    overlap = box_iou(torch.from_numpy(ours.xyxy), torch.from_numpy(theirs.xyxy)).numpy()
    overlap = np.where(ours.class_id[:, None] == theirs.class_id[None], overlap, 0)
    close = np.argwhere(overlap > _IOU)
    pairs: list[tuple[int, int]] = []
    for a, b in close[np.argsort(-overlap[tuple(close.T)], kind="stable")].tolist():
        if overlap[a, b] > 0:
            pairs.append((a, b))
            overlap[a], overlap[:, b] = 0, 0
    return pairs
