"""Whether the file detects what torch does: which detections are the same, and which stand alone for want of a bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
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
from yolo_distill.runtime.decode import decode_dense
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.letterbox import Transform
from yolo_distill.runtime.nms import CLASS_OFFSET
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
    means, margin = detector.meaning, 4 * noise.score
    for answer in answers:
        found = detector.postprocess(answer.ours, [answer.transform], conf=conf, iou=IOU, max_det=MAX_DET)[0]
        file = rows_of_found(found)
        settings = {"conf_thres": conf, "iou_thres": IOU, "max_det": MAX_DET}
        host = host_detections(answer.theirs, means, answer.transform, **settings)
        checkpoint = host.rows
        # A pixel of the input is several of a picture that was shrunk.
        enlarged = max(1.0, *(side / size for side, size in zip(answer.transform.picture, detector.imgsz, strict=True)))
        to_input = 1.0 if means.task != "obb" and not means.end2end else enlarged
        side = partial(
            _side, lies=answer.transform, means=means, conf=conf, margin=margin, tolerance=TOLERANCES.box_px * enlarged
        )
        ours = side(file, _kept(answer.ours, means, conf), answer.ours)
        theirs = side(checkpoint, host.kept, answer.theirs)
        pairs, alone_file, alone_torch = pair(ours.rows, theirs.rows, TOLERANCES.box_px * to_input)
        for a, b in pairs:
            box_px = max(box_px, float(np.abs(file[a, :4] - checkpoint[b, :4]).max()))
            score = max(score, float(abs(file[a, 4] - checkpoint[b, 4])))
        own.append(compare_own(found, host, answer.theirs, pairs))
        check_own(own[-1], enlarged, answer.name)
        edge = _borderline(
            ours,
            theirs,
            alone_file,
            alone_torch,
            conf=conf,
            margin=margin,
            wobble=noise.box_px * to_input,
            full=rows_of(answer.ours).shape[1] if detector.end2end else MAX_DET,
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


class Side(NamedTuple):
    """The detections of one side in one picture, as NMS compared them.

    Attributes:
        rows: see `rows_of_found`; of a dense answer with upright boxes in pixels of the input, not cut off at the
            picture's borders, where a nearly untrained network has many that end alike.
        classes: which classes each may have had but for rounding, bool, shape (N, nc). None of an end-to-end answer,
            which knows no NMS, and of a detection that is not in the raw answer.
        kept: what NMS kept, of which a segmenter's that show no mask are no detections.
        hiding: what hides worse boxes besides `rows`, in the same columns: `kept`; of turned boxes all candidates, as
            these hide others even where they are hidden themselves.
    """

    rows: Rows
    classes: Rows
    kept: Rows
    hiding: Rows


def _kept(raw: Raw, means: Postprocess, conf: float) -> Rows:
    """Return what the runtime's NMS keeps of a dense answer: x1, y1, x2, y2 in pixels of the input, score, class."""
    if means.end2end:
        return np.empty((0, 6))
    rows = rows_of(raw)[0]
    own, turned = len(rows) - 4 - len(means.names), means.task == "obb"
    found = decode_dense(
        rows, conf=conf, iou=IOU, max_det=MAX_DET, classes=None, agnostic=False, own=own, turned=turned
    )
    return np.column_stack([found.xyxy, found.scores, found.class_id]).astype(np.float64)


def _side(
    rows: Rows,
    kept: Rows,
    raw: Raw,
    *,
    lies: Transform,
    means: Postprocess,
    conf: float,
    margin: float,
    tolerance: float,
) -> Side:
    """Return the detections of one side; `kept` are those that NMS kept, in their order, in pixels of the input."""
    count = len(means.names)
    classes = np.zeros((len(rows), count), np.bool_)
    if means.end2end:
        return Side(rows, classes, rows, rows)
    answer = rows_of(raw)[0]
    scores, turned = answer[4 : 4 + count], means.task == "obb"
    uncut = rows.copy()
    if turned:
        boxes = lies.turned_to_picture(np.concatenate([answer[:4], answer[-1:]]).T)
    else:
        boxes = xywh2xyxy(answer[:4].T)
        left = iter(zip(kept, lies.to_picture(kept[:, :4]), strict=True))
        for row in uncut:  # of several that end at the same borders, with the same score, the order tells which it is
            same = (one for one, shown in left if (one[4:] == row[4:6]).all() and _near(shown, row[:4], tolerance))
            row[:4] = next(same, row)[:4]
    for row, could in zip(uncut, classes, strict=True):
        own = _near(boxes, row[6:] if turned else row[:4], tolerance) & (scores[int(row[5])] == row[4])
        could[:] = own.any() and scores[:, own.argmax()] >= row[4] - margin
    if not turned:
        more = np.zeros((len(kept), uncut.shape[1] - kept.shape[1]))  # keypoints hide nothing
        return Side(uncut, classes, kept, np.column_stack([kept, more]))
    passed = scores.max(0) > conf
    own = boxes[passed, :4], scores[:, passed].max(0), scores[:, passed].argmax(0), boxes[passed]
    return Side(uncut, classes, kept, np.column_stack(own).astype(np.float64))


def _near(boxes: Rows, place: Rows, tolerance: float) -> Any:
    """Return which boxes (..., D) are where one is."""
    return np.abs(boxes - place).max(-1) <= tolerance


def _borderline(
    file: Side,
    checkpoint: Side,
    alone_file: Sequence[int],
    alone_torch: Sequence[int],
    *,
    conf: float,
    margin: float,
    wobble: float,
    full: int,
) -> int:
    """Return how many detections of one side only are so because the last bit of a number decided.

    That is a score at the threshold, or at the end of a full list; or a box that NMS may have dropped for another, but
    for rounding: on the other side stands one that hides it, and on its own none does.

    Args:
        file: detections of the file.
        checkpoint: the same of torch.
        alone_file: rows of `file` without a partner.
        alone_torch: rows of `checkpoint` without a partner.
        conf: the threshold.
        margin: scores that are closer than this are equal.
        wobble: how far a side of a box may be from where it should be, in pixels, as the boxes are.
        full: the most rows there can be.
    """

    def by_chance(mine: Side, at: int, other: Side) -> bool:
        row, place = mine.rows[at], slice(6, None) if len(mine.rows[at]) == TURNED else slice(4)
        last = len(other.kept) >= full and row[4] <= other.kept[:, 4].min() + margin
        if last or abs(row[4] - conf) <= margin:
            return True
        # NMS moves boxes apart by their class, which rounds those of high numbers.
        moved = float(np.spacing(CLASS_OFFSET * np.float32(row[5])))
        slack = 1e-3 + (8 * wobble + 4 * moved) / max(1.0, float((row[2:4] - row[:2]).min()))

        def hides(others: Rows) -> Any:
            as_good = mine.classes[at][others[:, 5].astype(int)] & (others[:, 4] >= row[4] - margin)
            return as_good & (_overlap(row, others) >= IOU - slack)

        def covers(others: Rows) -> Any:
            return (others[:, 5] == row[5]) & (_overlap(row, others) > IOU + slack)

        elsewhere = ~_near(other.hiding[:, place], row[place], 1e-3 + 8 * wobble)
        hidden = hides(other.rows).any() or (hides(other.hiding) & elsewhere).any()
        twice = covers(mine.rows)
        twice[at] = False
        return bool(hidden and not twice.any() and not (covers(mine.hiding) & (mine.hiding[:, 4] > row[4])).any())

    alone = [(file, at, checkpoint) for at in alone_file] + [(checkpoint, at, file) for at in alone_torch]
    return sum(by_chance(*one) for one in alone)


def _overlap(row: Rows, others: Rows) -> Rows:
    """Return the IoU of one box with several, as NMS takes it."""
    if len(row) == TURNED:
        return np.asarray(batch_probiou(row[None, 6:], others[:, 6:])[0])
    return np.asarray(bbox_ioa(row[None, :4], others[:, :4], iou=True)[0])
