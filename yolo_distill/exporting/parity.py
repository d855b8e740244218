"""The proof of an exported file: run beside torch on the very same input, compared raw and after post-processing."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import ROOT
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes
from ultralytics.utils.patches import imread

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.evaluation.detection_agreement import agreement, greedy_pairs
from yolo_distill.runtime.detector import Detector

Rows = npt.NDArray[Any]

# Two float32 programs that add in another order differ by about 1e-5 of a value. A wrong weight, a wrong scale or a
# wrong channel order differs by more than these.
BOX_TOLERANCE = 0.1  # pixels of the network's input, any of a box's four numbers
SCORE_TOLERANCE = 1e-3

CONF, IOU, MAX_DET = 0.25, 0.7, 300  # the host's prediction defaults
_ENOUGH_DETECTIONS = 20
_MOST_PICTURES = 32


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
    """

    conf: float
    torch: int
    file: int
    same: int
    borderline: int
    missing: int
    box_px: float
    score: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """What both sides say about one picture.

    Attributes:
        ours: raw answer of the file, (1, 4 + nc, A) or (1, max_det, 6).
        theirs: raw answer of torch, of the same shape.
        transform: what the runtime needs to undo its letterbox.
        input_size: height and width of the network's input.
        picture_size: height and width of the picture.
    """

    ours: Rows
    theirs: Rows
    transform: Any
    input_size: tuple[int, ...]
    picture_size: tuple[int, ...]


class Noise(NamedTuple):
    """Largest differences that the raw answers of both sides showed.

    Attributes:
        box_px: of boxes, in pixels of the input.
        score: of scores.
    """

    box_px: float
    score: float


def prove(
    file: Path, model: DetectionModel, pictures: Sequence[tuple[str, Any]], *, nms: bool | None = None
) -> tuple[float, float, tuple[Comparison, ...]]:
    """Run an exported file beside the checkpoint it came from, on the same input tensors.

    The torch side is the unfolded model with the host's NMS and box scaling, so that tracing, simplification, the
    metadata and the runtime's own post-processing are all under test.

    Args:
        file: the ONNX file.
        model: the checkpoint; not changed.
        pictures: names and BGR pictures (H, W, 3).
        nms: the branch that was exported.

    Returns:
        the largest difference of the raw boxes (pixels of the input) and of the raw scores, and the comparison of
        the detections: at 0.25 and, where that gives fewer than 20, also at the threshold that a hundred pass.

    Raises:
        DistillError: the file cannot be run, or differs by more than the tolerances.
    """
    reference: Any = copy.deepcopy(model).cpu().float().eval()
    reference.end2end = nms is False
    try:
        detector = Detector(file, providers="cpu")
    except DistillError as error:
        raise DistillError(f"the exported file cannot be run: {error}") from error
    _check_notes(detector, model, nms)
    box_px = score = 0.0
    answers: list[Answer] = []
    for name, picture in pictures:
        tensor, transform = detector.preprocess(picture)
        ours = np.asarray(detector.infer(tensor))
        with torch.inference_mode():
            theirs = reference(torch.from_numpy(np.ascontiguousarray(tensor)))[0].numpy()
        if ours.shape != theirs.shape:
            raise DistillError(f"the exported file answers {ours.shape}, torch {theirs.shape}; no file is kept")
        boxes, scores = raw_difference(ours, theirs, end2end=nms is False)
        # Written so that nan is a mismatch as well.
        if not (boxes <= BOX_TOLERANCE and scores <= SCORE_TOLERANCE):
            raise DistillError(
                f"the exported file does not answer like the checkpoint on {name}: boxes differ by {boxes:.3g} px "
                f"(allowed {BOX_TOLERANCE:g}), scores by {scores:.3g} (allowed {SCORE_TOLERANCE:g}); no file is kept"
            )
        box_px, score = max(box_px, boxes), max(score, scores)
        answers.append(Answer(ours, theirs, transform, tuple(tensor.shape[2:]), picture.shape[:2]))
    noise = Noise(box_px, score)
    comparisons = [_compare_detections(detector, answers, CONF, noise, nms)]
    if comparisons[0].torch < _ENOUGH_DETECTIONS:
        lower = _lower_threshold(answers, score, nms)
        comparisons.append(_compare_detections(detector, answers, lower, noise, nms))
    for part in comparisons:
        if part.missing:
            raise DistillError(
                f"the exported file does not detect like the checkpoint: at conf {part.conf:.3g} torch gives "
                f"{part.torch} detections, the file {part.file}, and {part.same} are the same; no file is kept"
            )
    return box_px, score, tuple(comparisons)


def _check_notes(detector: Any, model: DetectionModel, nms: bool | None) -> None:
    """Compare what the file says about itself with the checkpoint."""
    says = detector.metadata
    notes = {
        "names": (dict(detector.names), dict(model.names)),
        "stride": (detector.stride, max(int(model.stride.max()), 32)),
        "task": (detector.task, "detect"),
        "end2end": (says.get("end2end"), nms is False),
        "imgsz": (tuple(says.get("imgsz", ())), tuple(detector.session.get_inputs()[0].shape[2:])),
    }
    for key, (file, checkpoint) in notes.items():
        if file != checkpoint:
            raise DistillError(f"the exported file says {key} {file!r} where {checkpoint!r} is right; no file is kept")


def raw_difference(ours: Rows, theirs: Rows, *, end2end: bool) -> tuple[float, float]:
    """Return the largest differences of boxes and scores between two raw answers of one picture."""
    if not end2end:  # (1, 4 + nc, A): anchors in the same order on both sides
        gap = np.abs(ours.astype(np.float64) - theirs)
        return float(gap[:, :4].max()), float(gap[:, 4:].max())
    # (1, max_det, 6): sorted by score, where equal scores may change places and the last rows fall off the end
    rows, others = ours[0], theirs[0]
    pairs, alone_a, alone_b = _pair(rows, others, BOX_TOLERANCE)
    last = max(rows[:, 4].min(), others[:, 4].min())
    for row in [*rows[alone_a], *others[alone_b]]:
        if not row[4] <= last + SCORE_TOLERANCE:
            return float("inf"), float("inf")
    if not pairs:
        return float("inf"), float("inf")
    a, b = np.array(pairs).T
    return float(np.abs(rows[a, :4] - others[b, :4]).max()), float(np.abs(rows[a, 4] - others[b, 4]).max())


def _lower_threshold(answers: Sequence[Answer], noise: float, nms: bool | None) -> float:
    """Return a confidence that about a hundred candidates a picture pass, in a gap between scores wider than `noise`.

    An untrained model scores whole levels alike; the threshold then falls between two levels.
    """
    raw = [answer.theirs[0] for answer in answers]
    scores = np.sort(np.concatenate([one[4:].max(0) if nms is None else one[:, 4] for one in raw]))[::-1]
    top = scores[: 100 * len(raw) + 1].astype(np.float64)
    gaps = top[:-1] - top[1:]
    if not len(gaps):
        return float(top[0]) / 2
    wide = np.flatnonzero(gaps > 4 * noise)
    at = int(wide[-1]) if len(wide) else int(gaps.argmax())
    return float(top[at] + top[at + 1]) / 2


def _compare_detections(
    detector: Any, answers: Sequence[Answer], conf: float, noise: Noise, nms: bool | None
) -> Comparison:
    """Post-process the file's answers with the runtime and torch's with the host, and pair what comes out."""
    counts = {"torch": 0, "file": 0, "same": 0, "borderline": 0, "missing": 0}
    box_px = score = 0.0
    for answer in answers:
        found = detector.postprocess(answer.ours, [answer.transform], conf=conf, iou=IOU, max_det=MAX_DET)[0]
        file = np.column_stack([found.xyxy, found.confidence, found.class_id]).astype(np.float64)
        raw = torch.from_numpy(answer.theirs.copy())
        kept = non_max_suppression(raw, conf, IOU, max_det=MAX_DET, nc=0, end2end=nms is False)[0]
        lies = _letterbox(answer.picture_size, answer.input_size)
        kept[:, :4] = scale_boxes(answer.input_size, kept[:, :4], answer.picture_size, ratio_pad=lies)
        checkpoint = kept[:, :6].numpy().astype(np.float64)
        # A pixel of the input is several of a picture that was shrunk.
        enlarged = max(side / size for side, size in zip(answer.picture_size, answer.input_size, strict=True))
        pairs, alone_file, alone_torch = _pair(file, checkpoint, BOX_TOLERANCE * max(1.0, enlarged))
        for a, b in pairs:
            box_px = max(box_px, float(np.abs(file[a, :4] - checkpoint[b, :4]).max()))
            score = max(score, float(abs(file[a, 4] - checkpoint[b, 4])))
        alone = len(alone_file) + len(alone_torch)
        edge = 0
        if alone:
            full = MAX_DET if nms is None else answer.ours.shape[1]
            edge = _borderline(
                file,
                checkpoint,
                alone_file,
                alone_torch,
                conf=conf,
                margin=4 * noise.score,
                wobble=noise.box_px * enlarged,
                full=full,
                scores=answer.theirs[0, 4:] if nms is None else None,
            )
        counts["torch"] += len(checkpoint)
        counts["file"] += len(file)
        counts["same"] += len(pairs)
        counts["borderline"] += edge
        counts["missing"] += alone - edge
    return Comparison(conf=conf, box_px=box_px, score=score, **counts)


def _letterbox(picture: Sequence[int], size: Sequence[int]) -> tuple[tuple[float, float], tuple[int, int]]:
    """Return how a picture lies in the input: enlargement (y, x) and padding (left, top) in pixels.

    Worked out here because the host's releases differ: the older ones forget that a resized side is a whole number.
    """
    gain = min(side / whole for side, whole in zip(size, picture, strict=True))
    height, width = (max(round(whole * gain), 1) for whole in picture)
    padding = (round((size[1] - width) / 2 - 0.1), round((size[0] - height) / 2 - 0.1))
    return (height / picture[0], width / picture[1]), padding


def _pair(rows: Rows, others: Rows, box_tolerance: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pair rows (x1, y1, x2, y2, score, class) of the same class, box and score within tolerance.

    Returns:
        index pairs, and the indices on either side that found no partner.
    """
    gap = np.abs(rows[:, None, :4].astype(np.float64) - others[None, :, :4]).max(-1)
    near = (gap <= box_tolerance) & (np.abs(rows[:, None, 4] - others[None, :, 4]) <= SCORE_TOLERANCE)
    pairs = greedy_pairs(-gap, near & (rows[:, None, 5] == others[None, :, 5]))
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

    That is a score at the threshold, or at the last place of a full list; an overlap by just what NMS allows; a tie,
    where either of two boxes, or two classes of one box, may be the one that is kept; or a box that had to go, or
    could stay, because of such a one.

    Args:
        file: detections (x1, y1, x2, y2, score, class) of the file.
        checkpoint: the same of torch.
        alone_file: rows of `file` without a partner.
        alone_torch: rows of `checkpoint` without a partner.
        conf: the threshold.
        margin: scores that are closer than this are equal.
        wobble: how far a side of a box may be from where it should be, in pixels of the picture.
        full: the most rows there can be.
        scores: raw class scores (nc, A) of a dense answer, which show whether two classes of one box are tied.
    """
    excused: tuple[set[int], set[int]] = set(), set()
    sides = ((file, checkpoint, alone_file, alone_torch), (checkpoint, file, alone_torch, alone_file))
    for mine, (rows, others, alone, other_alone) in zip(excused, sides, strict=True):
        for at in alone:
            row = rows[at]
            slack = 1e-3 + 8 * wobble / max(1.0, float((row[2:4] - row[:2]).min()))
            edge = (others[:, 5] == row[5]) & (np.abs(_overlap(row, others) - IOU) <= slack)
            last = len(others) >= full and row[4] <= others[:, 4].min() + margin
            # Of two tied boxes each side keeps one: the other one has no partner either.
            tied = any(_tied(row, others[rival], margin, scores) for rival in other_alone)
            if abs(row[4] - conf) <= margin or last or tied or edge.any():
                mine.add(at)
    grown = True
    while grown:
        before = len(excused[0]) + len(excused[1])
        for mine, yours, (rows, others, alone, _) in zip(excused, excused[::-1], sides, strict=True):
            rivals = others[sorted(yours)]
            for at in alone:
                if ((rivals[:, 5] == rows[at, 5]) & (_overlap(rows[at], rivals) > IOU)).any():
                    mine.add(at)
        grown = len(excused[0]) + len(excused[1]) > before
    return len(excused[0]) + len(excused[1])


def _tied(row: Rows, rival: Rows, margin: float, scores: Rows | None) -> bool:
    """Return whether chance decides which of two boxes NMS keeps, or which of its classes a box gets."""
    if abs(row[4] - rival[4]) > margin:
        return False
    same_place = np.abs(row[:4] - rival[:4]).max() <= BOX_TOLERANCE
    if row[5] == rival[5]:
        return bool(same_place or _overlap(row, rival[None])[0] > IOU)
    if scores is None or not same_place:
        return False
    both = np.abs(scores[[int(row[5]), int(rival[5])]] - row[4]) <= margin
    return bool(both.all(0).any())


def _overlap(row: Rows, others: Rows) -> Rows:
    """Return the IoU of one box with several."""
    low, high = np.maximum(row[:2], others[:, :2]), np.minimum(row[2:4], others[:, 2:4])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = (others[:, 2:4] - others[:, :2]).prod(-1) + (row[2:4] - row[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def proof_pictures(data: str | Path | None) -> list[tuple[str, Any]]:
    """Return up to 32 names and BGR pictures."""
    if data is not None:
        files = pictures_of(check_data(data, "val", need_labels=False), "val", f"data={data}")
        files = [files[int(at)] for at in np.linspace(0, len(files) - 1, min(len(files), _MOST_PICTURES))]
    else:
        files = [str(file) for file in sorted((ROOT / "assets").glob("*.jpg"))]
    pictures = [(Path(file).name, imread(file, cv2.IMREAD_COLOR)) for file in files]
    readable = [(name, picture) for name, picture in pictures if picture is not None]
    if data is not None and not readable:
        raise RequestError(f"data={data}: none of the pictures of val can be read")
    return readable or _drawn_pictures()


def _drawn_pictures() -> list[tuple[str, Any]]:
    """Return pictures of blurred noise with boxes on it, of several shapes."""
    random = np.random.default_rng(0)
    pictures = []
    for height, width in ((480, 640), (640, 360), (97, 211), (500, 500)):
        picture = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 5)
        for _ in range(8):
            x, y = (int(random.integers(0, side)) for side in (width, height))
            corner = (x + int(random.integers(5, width)), y + int(random.integers(5, height)))
            cv2.rectangle(picture, (x, y), corner, [int(level) for level in random.integers(0, 256, 3)], -1)
        pictures.append((f"drawn-{height}x{width}", picture))
    return pictures


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
        answers = [detector.infer(detector.preprocess(picture)[0]) for detector in (one, other)]
        boxes, scores = raw_difference(*answers, end2end=one.end2end)
        if not (boxes <= BOX_TOLERANCE and scores <= SCORE_TOLERANCE):  # nan is a mismatch as well
            raise DistillError(
                f"{file.name} does not answer like {reference.name} on {name}: boxes differ by {boxes:.3g} px "
                f"(allowed {BOX_TOLERANCE:g}), scores by {scores:.3g} (allowed {SCORE_TOLERANCE:g}); no file is kept"
            )
