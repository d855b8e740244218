"""How far two files find the same objects: what is left to measure where nobody has drawn boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ultralytics.utils.metrics import box_iou

from yolo_distill.runtime.detector import Detector

_CONF = 0.25
_IOU = 0.5

#: Confidence that detections to be compared reach down to. One on the threshold would count against a file that is
#: right to a hundredth of a score; so partners are looked for a little below it.
NEAR = 0.8 * _CONF


class Found(Protocol):
    """What was found in one picture: `xyxy` (N, 4) in pixels, `confidence` (N,) and `class_id` (N,), all numpy."""

    @property
    def xyxy(self) -> Any: ...

    @property
    def confidence(self) -> Any: ...

    @property
    def class_id(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Detections of one detector beside those of another on the same pictures, at confidence 0.25.

    Attributes:
        matched: share of all detections, of either, that have a partner in the other: same class, IoU above 0.5.
        score_gap: mean difference of the scores of partners, 0 to 1.
        detections: how many the first has.
    """

    matched: float
    score_gap: float
    detections: int


def agreement(file: Path, reference: Path, pictures: Sequence[tuple[str, Any]]) -> Agreement:
    """Compare what two files find.

    Args:
        file: one ONNX file.
        reference: another.
        pictures: names and BGR pictures (H, W, 3).
    """
    one, other = Detector(file), Detector(reference)
    return agree((one(picture, conf=NEAR), other(picture, conf=NEAR)) for _, picture in pictures)


def agree(findings: Iterable[tuple[Found, Found]]) -> Agreement:
    """Compare what two detectors found.

    Args:
        findings: a pair a picture, of detections down to `NEAR`.
    """
    found = partners = wanted = 0
    gaps: list[float] = []
    for ours, theirs in findings:
        pairs = _partners(ours, theirs)
        gaps += [abs(float(ours.confidence[a] - theirs.confidence[b])) for a, b in pairs]
        found += _counted(ours)
        wanted += _counted(theirs)
        partners += sum(int(ours.confidence[a] > _CONF) + int(theirs.confidence[b] > _CONF) for a, b in pairs)
    total = found + wanted
    return Agreement(partners / total if total else 1.0, float(np.mean(gaps)) if gaps else 0.0, found)


def _counted(found: Found) -> int:
    """Return how many detections count: sure enough, and with an area left at the picture's border to overlap with."""
    solid = (found.xyxy[:, 2:] > found.xyxy[:, :2]).all(1)
    return int((solid & (found.confidence > _CONF)).sum())


def _partners(ours: Found, theirs: Found) -> list[tuple[int, int]]:
    """Return pairs of detections of one class that overlap, each detection at most once, best overlap first."""
    if not len(ours.xyxy) or not len(theirs.xyxy):
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
