"""The proof of an exported file: run beside torch on the very same input, compared raw and after post-processing."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.metrics import batch_probiou, bbox_ioa

from yolo_distill.errors import DistillError
from yolo_distill.evaluation.detection_agreement import agreement, greedy_pairs
from yolo_distill.exporting.task_parity import (
    TURNED,
    as_raw,
    check_own,
    compare_own,
    host_detections,
    own_gap,
    rows_of,
    rows_of_found,
    worst_of,
)
from yolo_distill.models.tasks import task_of
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.letterbox import Transform
from yolo_distill.runtime.postprocess import Postprocess, Raw

Rows = npt.NDArray[Any]

CONF, IOU, MAX_DET = 0.25, 0.7, 300  # the host's prediction defaults
_ENOUGH_DETECTIONS = 20


@dataclasses.dataclass(frozen=True)
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
    own: dict[str, float] = dataclasses.field(default_factory=dict)


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


def float_copy(model: DetectionModel, *, end2end: bool) -> Any:
    """Return a copy of the checkpoint that files are compared with: fp32, on the CPU, of the branch in the file."""
    reference: Any = copy.deepcopy(model).cpu().float().eval()
    reference.end2end = end2end
    return reference


def torch_run(model: DetectionModel, size: tuple[int, int], *, end2end: bool) -> Callable[[], Any]:
    """Return a call that runs the checkpoint once, folded as for inference, on noise of this height and width."""
    folded = float_copy(model, end2end=end2end).fuse(verbose=False)
    noise = torch.rand(1, 3, *size)

    def run() -> Any:
        with torch.inference_mode():
            return folded(noise)

    return run


def prove(
    file: Path, model: DetectionModel, pictures: Sequence[tuple[str, Any]], *, nms: bool | None = None
) -> tuple[Gap, tuple[Comparison, ...]]:
    """Run an exported file beside the checkpoint it came from, on the same input tensors.

    The torch side is the unfolded model with the host's NMS and box scaling, so that tracing, simplification, the
    metadata and the runtime's own post-processing are all under test.

    Args:
        file: the ONNX file.
        model: the checkpoint; not changed.
        pictures: names and BGR pictures (H, W, 3).
        nms: the branch that was exported.

    Returns:
        the largest differences of the raw answers, and the comparison of the detections: at 0.25 and, where that gives
        fewer than 20, also at the threshold that a hundred pass.

    Raises:
        DistillError: the file cannot be run, or differs by more than the tolerances.
    """
    reference = float_copy(model, end2end=nms is False)
    try:
        detector = Detector(file, providers="cpu")
    except DistillError as error:
        raise DistillError(f"the exported file cannot be run: {error}") from error
    _check_notes(detector, model, nms)
    gaps, answers = [], []
    for name, picture in pictures:
        tensor, transform = detector.preprocess(picture)
        ours = detector.infer(tensor)
        with torch.inference_mode():
            theirs = as_raw(reference(torch.from_numpy(np.ascontiguousarray(tensor)))[0])
        gaps.append(check_raw(ours, theirs, name, detector.meaning))
        answers.append(Answer(name, ours, theirs, transform))
    noise = widest(gaps)
    comparisons = [_compare_detections(detector, answers, CONF, noise)]
    if comparisons[0].torch < _ENOUGH_DETECTIONS:
        lower = _lower_threshold(answers, noise.score, detector.meaning)
        comparisons.append(_compare_detections(detector, answers, lower, noise))
    for part in comparisons:
        if part.missing:
            raise DistillError(
                f"the exported file does not detect like the checkpoint: at conf {part.conf:.3g} torch gives "
                f"{part.torch} detections, the file {part.file}, and {part.same} are the same; no file is kept"
            )
    return noise, tuple(comparisons)


def check_raw(
    ours: Raw,
    theirs: Raw,
    picture: str,
    means: Postprocess,
    *,
    allowed: Gap | None = TOLERANCES,
    who: str = "the exported file",
    whom: str = "the checkpoint",
) -> Gap:
    """Return how far the raw answers of `who` and `whom` are apart; `allowed` of None only measures that.

    Raises:
        DistillError: they are of different shapes, or too far apart.
    """
    sizes = [[one.shape for one in (raw if isinstance(raw, tuple) else (raw,))] for raw in (ours, theirs)]
    if sizes[0] != sizes[1]:
        file, torchs = (" and ".join(map(str, each)) for each in sizes)
        raise DistillError(f"{who} answers {file}, torch {torchs}; no file is kept")
    gap = _raw_gap(rows_of(ours)[0], rows_of(theirs)[0], means)
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        gap = widest([gap, Gap(*own_gap(ours[1][0], theirs[1][0], means))])
    # Written so that nan is a mismatch as well.
    if allowed and not (gap.box_px <= allowed.box_px and gap.score <= allowed.score):
        raise DistillError(
            f"{who} does not answer like {whom} on {picture}: boxes differ by {gap.box_px:.3g} px "
            f"(allowed {allowed.box_px:g}), scores by {gap.score:.3g} (allowed {allowed.score:g}); no file is kept"
        )
    return gap


def widest(gaps: Sequence[Gap]) -> Gap:
    """Return the largest of each."""
    return Gap(*map(max, zip(*gaps, strict=True)))


def _check_notes(detector: Any, model: DetectionModel, nms: bool | None) -> None:
    """Compare what the file says about itself with the checkpoint."""
    says = detector.metadata
    notes = {
        "names": (dict(detector.names), dict(model.names)),
        "stride": (detector.stride, max(int(model.stride.max()), 32)),
        "task": (detector.task, task_of(model)),
        "kpt_shape": (list(detector.meaning.kpt_shape or []), list(getattr(model.model[-1], "kpt_shape", []))),
        "end2end": (says.get("end2end"), nms is False),
        "imgsz": (tuple(says.get("imgsz", ())), tuple(detector.session.get_inputs()[0].shape[2:])),
    }
    for key, (file, checkpoint) in notes.items():
        if file != checkpoint:
            raise DistillError(f"the exported file says {key} {file!r} where {checkpoint!r} is right; no file is kept")


def _raw_gap(rows: Rows, others: Rows, means: Postprocess) -> Gap:
    if not means.end2end:  # (4 + nc + E, A): anchors in the same order on both sides
        own = 4 + len(means.names)
        gap = np.abs(rows[:own].astype(np.float64) - others[:own])
        boxes = Gap(float(gap[:4].max()), float(gap[4:].max()))
        return widest([boxes, Gap(*own_gap(rows[own:], others[own:], means))])
    # (max_det, 6 + E): sorted by score, where equal scores may change places and the last rows fall off the end
    pairs, alone_a, alone_b = _pair(rows, others, TOLERANCES.box_px)
    last = max(rows[:, 4].min(), others[:, 4].min())
    alone = np.concatenate([rows[alone_a, 4], others[alone_b, 4]])
    if not pairs or not (alone <= last + TOLERANCES.score).all():
        return Gap(np.inf, np.inf)
    a, b = np.array(pairs).T
    boxes = Gap(float(np.abs(rows[a, :4] - others[b, :4]).max()), float(np.abs(rows[a, 4] - others[b, 4]).max()))
    return widest([boxes, Gap(*own_gap(rows[a, 6:].T, others[b, 6:].T, means))])


def _lower_threshold(answers: Sequence[Answer], noise: float, means: Postprocess) -> float:
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


def _compare_detections(detector: Detector, answers: Sequence[Answer], conf: float, noise: Gap) -> Comparison:
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
        enlarged = max(side / size for side, size in zip(answer.transform.picture, detector.imgsz, strict=True))
        pairs, alone_file, alone_torch = _pair(file, checkpoint, TOLERANCES.box_px * max(1.0, enlarged))
        for a, b in pairs:
            box_px = max(box_px, float(np.abs(file[a, :4] - checkpoint[b, :4]).max()))
            score = max(score, float(abs(file[a, 4] - checkpoint[b, 4])))
        own.append(compare_own(found, host, answer.theirs, pairs))
        check_own(own[-1], max(1.0, enlarged), answer.name)
        edge = _borderline(
            file,
            checkpoint,
            alone_file,
            alone_torch,
            conf=conf,
            margin=4 * noise.score,
            wobble=noise.box_px * enlarged,
            full=rows_of(answer.ours).shape[1] if detector.end2end else MAX_DET,
            scores=None if detector.end2end else rows_of(answer.theirs)[0, 4 : 4 + len(means.names)],
        )
        counts["torch"] += len(checkpoint)
        counts["file"] += len(file)
        counts["same"] += len(pairs)
        counts["borderline"] += edge
        counts["missing"] += len(alone_file) + len(alone_torch) - edge
    return Comparison(conf=conf, box_px=box_px, score=score, own=worst_of(own), **counts)


def _pair(rows: Rows, others: Rows, box_tolerance: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
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
        wobble: how far a side of a box may be from where it should be, in pixels of the picture.
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


def prove_same(file: Path, reference: Path, pictures: Sequence[tuple[str, Any]], *, rounded: bool = False) -> None:
    """Run two files on the same pictures.

    Args:
        file: takes (1, H, W, 3) uint8, or is in ONNX Runtime's own format.
        reference: the ONNX file that takes (1, 3, H, W) floats.
        pictures: names and BGR pictures (H, W, 3).
        rounded: whether they compute in fewer than 32 bits, where another order of adding up ends at another number;
            then their detections are compared, else their raw answers.

    Raises:
        DistillError: they differ.
    """
    if rounded:
        found = agreement(file, reference, pictures)
        if not found.good_enough:
            raise DistillError(f"{file.name} does not detect like {reference.name}: {found}; no file is kept")
        return
    one, other = (Detector(each, providers="cpu") for each in (file, reference))
    for name, picture in pictures:
        ours, theirs = (detector.infer(detector.preprocess(picture)[0]) for detector in (one, other))
        check_raw(ours, theirs, name, one.meaning, who=file.name, whom=reference.name)
