"""How far two files find the same objects: what is left to measure where nobody has drawn boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ultralytics.utils.metrics import OKS_SIGMA, batch_probiou, box_iou, kpt_iou

from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.masks import mask_iou

_CONF = 0.25
_ENOUGH = 20  # detections; of fewer, one more or less would decide
_NEAR = 0.8
_IOU = 0.5

#: Confidence that detections to be compared reach down to.
LOW = 0.01

#: What two detectors have to reach that are to be the same but for rounding. On BCCD, int8 files within 0.3 points of
#: mAP50-95 agree by 0.97 or more.
MIN_MATCHED = 0.95
MAX_SCORE_GAP = 0.03


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Detections of one detector beside those of another on the same pictures.

    Attributes:
        matched: share of all detections, of either, that have a partner in the other: same class, IoU above 0.5. That
            is the IoU of masks or turned boxes where there are any; of keypoints that of boxes and their similarity.
        score_gap: mean difference of the scores of partners, 0 to 1.
        detections: how many the first has.
        conf: the threshold: 0.25, or lower where fewer than 20 detections of the second pass that.
    """

    matched: float
    score_gap: float
    detections: int
    conf: float

    @property
    def good_enough(self) -> bool:
        """Whether the two are the same but for rounding; where nothing is found, nothing shows it."""
        # Written so that nan is a mismatch as well.
        return self.matched >= MIN_MATCHED and self.score_gap <= MAX_SCORE_GAP

    def __str__(self) -> str:
        if not self.detections:
            return "no detections to compare (give data= with pictures of what the model looks for)"
        at = "" if self.conf == _CONF else f" at conf {self.conf:.2g}"
        return f"{100 * self.matched:.1f} % of the detections the same{at}, scores off by {self.score_gap:.3f}"


def agreement(file: Path, reference: Path, pictures: Sequence[tuple[str, Any]]) -> Agreement:
    """Compare what two ONNX files find in pictures, given as names and BGR pictures (H, W, 3)."""
    one, other = (Detector(each, providers="cpu") for each in (file, reference))
    return agree([(one(picture, conf=LOW), other(picture, conf=LOW)) for _, picture in pictures])


def agree(findings: Sequence[tuple[Detections, Detections]]) -> Agreement:
    """Compare what two detectors found: a pair a picture, of detections down to `LOW`."""
    conf = _threshold([theirs for _, theirs in findings])
    partners = 0
    gaps: list[float] = []
    for ours, theirs in findings:
        # One on the threshold would count against a file that is right to a hundredth of a score; so partners are
        # looked for a little below it.
        for a, b in _partners(ours, theirs, _NEAR * conf):
            scores = float(ours.confidence[a]), float(theirs.confidence[b])
            gaps.append(abs(scores[0] - scores[1]))
            partners += sum(int(score > conf) for score in scores)
    found, wanted = (sum(_counted(pair[which], conf) for pair in findings) for which in (0, 1))
    total = found + wanted
    return Agreement(partners / total if total else 0.0, float(np.mean(gaps)) if gaps else 0.0, found, conf)


def _threshold(found: Sequence[Detections]) -> float:
    """Return 0.25, or what enough detections pass."""
    scores = np.sort(np.concatenate([one.confidence for one in found] or [np.zeros(0, np.float32)]))[::-1]
    if (scores > _CONF).sum() >= _ENOUGH or not len(scores):
        return _CONF
    # Just below the score of the last one that is wanted.
    return min(_CONF, float(scores[min(_ENOUGH, len(scores)) - 1]) * 0.999)


def _counted(found: Detections, conf: float) -> int:
    """Return how many detections count: sure enough, and with an area left at the picture's border to overlap with."""
    solid = (found.xyxy[:, 2:] > found.xyxy[:, :2]).all(1)
    return int((solid & (found.confidence > conf)).sum())


def _partners(ours: Detections, theirs: Detections, near: float) -> list[tuple[int, int]]:
    """Return pairs of detections surer than `near` of one class that overlap, each once at most, best overlap first."""
    overlap = _overlap(ours, theirs)
    sure = (ours.confidence[:, None] > near) & (theirs.confidence[None] > near)
    alike = sure & (ours.class_id[:, None] == theirs.class_id[None])
    return greedy_pairs(overlap, alike & (overlap > _IOU), closest_first=True)


def _overlap(ours: Detections, theirs: Detections) -> npt.NDArray[Any]:
    """Return how far each detection covers each other one, (N, M), by what its task looks for."""
    sides: list[Any] = [ours, theirs]
    own: dict[str, list[Any]] = {
        key: [getattr(side, key, None) for side in sides] for key in ("xywhr", "keypoints", "masks")
    }
    turned, points, masks = own.values()
    if turned[0] is not None and turned[1] is not None:
        return batch_probiou(turned[0], turned[1]).numpy()
    boxes = [torch.from_numpy(side.xyxy) for side in sides]
    overlap = box_iou(*boxes).numpy()
    if points[0] is not None and points[1] is not None:
        count = points[0].data.shape[1]
        sigma = OKS_SIGMA if count == len(OKS_SIGMA) else np.full(count, 1 / count)
        # The host leaves points out that are marked as not seen; all of these are compared.
        given = [torch.from_numpy(np.concatenate([one.xy, np.ones_like(one.xy[..., :1])], 2)) for one in points]
        area = (boxes[0][:, 2:] - boxes[0][:, :2]).prod(1)
        return np.minimum(overlap, kpt_iou(*given, area, sigma).numpy())
    if masks[0] is not None and masks[1] is not None:
        for a, b in zip(*np.nonzero(overlap > _IOU), strict=True):
            overlap[a, b] = mask_iou(masks[0].pieces[a], masks[1].pieces[b])
    return overlap


def greedy_pairs(
    closeness: npt.NDArray[Any], allowed: npt.NDArray[np.bool_], *, closest_first: bool = False
) -> list[tuple[int, int]]:
    """Return pairs of a row and a column, each in one pair at most, taken one after the other and never given back.

    Args:
        closeness: of each row to each column, (N, M).
        allowed: which may be a pair, (N, M).
        closest_first: take the closest pair of all that are left; otherwise row by row, each with its closest column.
    """
    rows, columns = np.nonzero(allowed)
    order = np.argsort(-closeness[allowed], kind="stable")
    if not closest_first:
        order = order[np.argsort(rows[order], kind="stable")]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return list(pairs.items())
