"""Whether the file detects what torch does: which detections are the same, and which stand alone for want of a bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ultralytics.utils.metrics import batch_probiou, bbox_ioa
from ultralytics.utils.ops import xywh2xyxy

from yolo_distill.evaluation.detection_agreement import greedy_pairs
from yolo_distill.exporting.task_parity import (
    TURNED,
    check_own,
    compare_own,
    host_detections,
    rows_of,
    rows_of_found,
    worst_of,
)
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.letterbox import Transform
from yolo_distill.runtime.postprocess import Postprocess, Raw

Rows = npt.NDArray[Any]

IOU, MAX_DET = 0.7, 300  # the host's prediction defaults


@dataclass(frozen=True)
class Comparison:
    """Detections of torch and of the file at one confidence threshold, over all pictures.

    Attributes:
        conf: the threshold.
        torch: detections that the checkpoint gives, after the host's NMS.
        file: detections that the file gives, after the runtime's.
        same: how many pair up: same class, boxes and scores within tolerance.
        borderline: how many stand alone but sit on a threshold, where the last bit decides.
        missing: how many stand alone without that excuse; one is enough to refuse the file.
        box_px: largest difference of a paired box, in pixels of the picture.
        score: largest difference of a paired score.
        own: of other tasks the worst of what they have besides: `mask_iou`, the smallest of a paired mask;
            `keypoint_px` and `angle_deg`, the largest differences, the former in pixels of the picture.
    """

    conf: float
    torch: int
    file: int
    same: int
    borderline: int
    missing: int
    box_px: float
    score: float
    own: dict[str, float] = field(default_factory=dict)


class Answer(NamedTuple):
    """What both sides say about one picture.

    Attributes:
        name: of the picture.
        ours: raw answer of the file for it, (1, 4 + nc + E, A) or (1, max_det, 6 + E), and of masks the prototypes.
        theirs: raw answer of torch, of the same shape.
        transform: how the picture lies in the input.
    """

    name: str
    ours: Raw
    theirs: Raw
    transform: Transform


class Gap(NamedTuple):
    """How far raw answers are apart.

    Attributes:
        box_px: any of a box's four numbers, and keypoints, in pixels of the network's input.
        score: scores, and what else a task's answer has: how sure keypoints are, angles in radians, and prototypes and
            their weights, as shares of the largest.
    """

    box_px: float
    score: float


#: Two float32 programs that add in another order differ by about 1e-5 of a value. A wrong weight, a wrong scale or a
#: wrong channel order differs by more than this.
TOLERANCES = Gap(box_px=0.1, score=1e-3)


def lower_threshold(answers: Sequence[Answer], noise: float, means: Postprocess) -> float:
    """Return a confidence that about a hundred candidates a picture pass, in a gap between scores wider than `noise`.

    An untrained model scores whole levels alike; the threshold then falls between two levels.
    """
    raw = [rows_of(answer.theirs)[0] for answer in answers]
    end = 4 + len(means.names)
    scores = np.sort(np.concatenate([one[:, 4] if means.end2end else one[4:end].max(0) for one in raw]))[::-1]
    top = scores[: 100 * len(raw) + 1].astype(np.float64)
    gaps = top[:-1] - top[1:]
    if not len(gaps):
        return float(top[0]) / 2
    wide = np.flatnonzero(gaps > 4 * noise)
    at = int(wide[-1]) if len(wide) else int(gaps.argmax())
    return float(top[at] + top[at + 1]) / 2


def compare_detections(detector: Detector, answers: Sequence[Answer], conf: float, noise: Gap) -> Comparison:
    """Post-process the file's answers with the runtime and torch's with the host, and pair what comes out."""
    counts = {"torch": 0, "file": 0, "same": 0, "borderline": 0, "missing": 0}
    box_px = score = 0.0
    own: list[dict[str, float]] = []
    means = detector.meaning
    for answer in answers:
        found = detector.postprocess(answer.ours, [answer.transform], conf=conf, iou=IOU, max_det=MAX_DET)[0]
        file = rows_of_found(found)
        settings = {"conf_thres": conf, "iou_thres": IOU, "max_det": MAX_DET}
        host = host_detections(answer.theirs, means, answer.transform, **settings)
        checkpoint = host.rows
        # A pixel of the input is several of a picture that was shrunk.
        enlarged = max(1.0, *(side / size for side, size in zip(answer.transform.picture, detector.imgsz, strict=True)))
        seen, to_input = (file, checkpoint), enlarged
        if not detector.end2end and means.task != "obb":  # turned boxes are not cut off
            seen = _uncut(file, answer.ours, answer.transform), _uncut(checkpoint, answer.theirs, answer.transform)
            to_input = 1.0
        pairs, alone_file, alone_torch = pair(*seen, TOLERANCES.box_px * to_input)
        for a, b in pairs:
            box_px = max(box_px, float(np.abs(file[a, :4] - checkpoint[b, :4]).max()))
            score = max(score, float(abs(file[a, 4] - checkpoint[b, 4])))
        own.append(compare_own(found, host, answer.theirs, pairs))
        check_own(own[-1], enlarged, answer.name)
        edge = _borderline(
            *seen,
            alone_file,
            alone_torch,
            conf=conf,
            margin=4 * noise.score,
            wobble=noise.box_px * to_input,
            full=rows_of(answer.ours).shape[1] if detector.end2end else MAX_DET,
            scores=None if detector.end2end else rows_of(answer.theirs)[0, 4 : 4 + len(means.names)],
        )
        counts["torch"] += len(checkpoint)
        counts["file"] += len(file)
        counts["same"] += len(pairs)
        counts["borderline"] += edge
        counts["missing"] += len(alone_file) + len(alone_torch) - edge
    return Comparison(conf=conf, box_px=box_px, score=score, own=worst_of(own), **counts)


def pair(rows: Rows, others: Rows, box_tolerance: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pair rows (x1, y1, x2, y2, score, class, ...) of the same class, box and score within tolerance.

    Returns:
        index pairs, and the indices on either side that found no partner.
    """
    apart = np.abs(rows[:, None].astype(np.float64) - others[None])
    gap = apart[:, :, :4].max(-1)
    near = (gap <= box_tolerance) & (np.abs(rows[:, None, 4] - others[None, :, 4]) <= TOLERANCES.score)
    # Boxes that end at all borders of the picture are equal; what a task has besides tells them apart.
    pairs = greedy_pairs(-gap - apart[:, :, 6:].max(-1, initial=0), near & (rows[:, None, 5] == others[None, :, 5]))
    left, right = {a for a, _ in pairs}, {b for _, b in pairs}
    return pairs, [a for a in range(len(rows)) if a not in left], [b for b in range(len(others)) if b not in right]


def _uncut(rows: Rows, raw: Raw, transform: Transform) -> Rows:
    """Return rows with their boxes as NMS compared them: in pixels of the input, not cut off at the picture's borders.

    A nearly untrained network finds many boxes that all end at the same borders. A row that is not in the answer stays
    as it is, and finds no partner.
    """
    answer = rows_of(raw)[0]
    boxes = xywh2xyxy(answer[:4].T)
    shown = transform.to_picture(boxes)
    uncut = rows.copy()
    for row in uncut:
        here = (answer[4 + int(row[5])] == row[4]) & (np.abs(shown - row[:4]).max(1) <= TOLERANCES.box_px)
        if here.any():
            row[:4] = boxes[here.argmax()]
    return uncut


def _borderline(
    file: Rows,
    checkpoint: Rows,
    alone_file: Sequence[int],
    alone_torch: Sequence[int],
    *,
    conf: float,
    margin: float,
    wobble: float,
    full: int,
    scores: Rows | None,
) -> int:
    """Return how many detections of one side only are so because the last bit of a number decided.

    That is a score at the threshold, or at the end of a full list; an overlap by just what NMS allows; a tie, where
    either of two boxes, or two classes of one box, may be the one that is kept; or a box that had to go, or could stay,
    because of such a one.

    Args:
        file: detections of the file, as `rows_of_found` gives them.
        checkpoint: the same of torch.
        alone_file: rows of `file` without a partner.
        alone_torch: rows of `checkpoint` without a partner.
        conf: the threshold.
        margin: scores that are closer than this are equal.
        wobble: how far a side of a box may be from where it should be, in pixels, as the boxes are.
        full: the most rows there can be.
        scores: raw class scores (nc, A) of a dense answer, which show whether two classes of one box are tied.
    """
    sides = ((file, checkpoint, alone_file, alone_torch), (checkpoint, file, alone_torch, alone_file))
    alone = [(side, rows[at]) for side, (rows, _, mine, _) in enumerate(sides) for at in mine]

    def on_edge(side: int, row: Rows) -> bool:
        _, others, _, other_alone = sides[side]
        slack = 1e-3 + 8 * wobble / max(1.0, float((row[2:4] - row[:2]).min()))
        edge = (others[:, 5] == row[5]) & (np.abs(_overlap(row, others) - IOU) <= slack)
        last = len(others) >= full and row[4] <= others[:, 4].min() + margin
        # Of two tied boxes each side keeps one: the other one has no partner either.
        tied = any(_tied(row, others[rival], margin, scores) for rival in other_alone)
        return bool(abs(row[4] - conf) <= margin or last or tied or edge.any())

    excused = [on_edge(*one) for one in alone]
    before: list[bool] = []
    while excused != before:
        before = excused
        rivals = [one for one, yes in zip(alone, excused, strict=True) if yes]
        excused = [yes or any(_drops(rival, one) for rival in rivals) for yes, one in zip(excused, alone, strict=True)]
    return sum(excused)


def _drops(rival: tuple[int, Rows], one: tuple[int, Rows]) -> bool:
    """Return whether a box of one side, had it been on the other, would have dropped the box there."""
    (side, row), (other_side, other) = rival, one
    return bool(side != other_side and row[5] == other[5] and _overlap(row, other[None])[0] > IOU)


def _tied(row: Rows, rival: Rows, margin: float, scores: Rows | None) -> bool:
    """Return whether chance decides which of two boxes NMS keeps, or which of its classes a box gets."""
    if abs(row[4] - rival[4]) > margin:
        return False
    same_place = np.abs(row[:4] - rival[:4]).max() <= TOLERANCES.box_px
    if row[5] == rival[5]:
        return bool(same_place or _overlap(row, rival[None])[0] > IOU)
    if scores is None or not same_place:
        return False
    both = np.abs(scores[[int(row[5]), int(rival[5])]] - row[4]) <= margin
    return bool(both.all(0).any())


def _overlap(row: Rows, others: Rows) -> Rows:
    """Return the IoU of one box with several, as NMS takes it."""
    if len(row) == TURNED:
        return np.asarray(batch_probiou(row[None, 6:], others[:, 6:])[0])
    return np.asarray(bbox_ioa(row[None, :4], others[:, :4], iou=True)[0])
