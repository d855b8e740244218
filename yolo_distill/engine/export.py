"""From a checkpoint to an ONNX file that is proved to answer like the checkpoint.

The host traces the model. What this module adds is the proof: the file is run by the runtime that will run it for the
user, on pictures, beside torch on the very same input. Only a file that passed appears under its name.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import hashlib
import importlib
import importlib.util
import json
import logging
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import yaml
from ultralytics import __version__ as host_version
from ultralytics.engine.exporter import Exporter
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, ROOT
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes

from yolo_distill import __version__
from yolo_distill.engine.checkpoint import load_detector, no_auto_install, one_line, trained_imgsz
from yolo_distill.engine.data import check_data, pictures_of
from yolo_distill.errors import DistillError, RequestError, did_you_mean, missing_extra
from yolo_distill.paths import export_dir

Rows = npt.NDArray[Any]

# Two float32 programs that add in another order differ by about 1e-5 of a value. A wrong weight, a wrong scale or a
# wrong channel order differs by more than these.
BOX_TOLERANCE = 0.1  # pixels of the network's input, any of a box's four numbers
SCORE_TOLERANCE = 1e-3

CONF, IOU, MAX_DET = 0.25, 0.7, 300  # the host's prediction defaults
_ENOUGH_DETECTIONS = 20
_MOST_PICTURES = 32
_LARGEST_SIDE = 8192


@dataclasses.dataclass(frozen=True)
class Target:
    """What a file in `export/` says.

    Attributes:
        name: the file's name without `.yaml`.
        audience: who the exported file is for.
        opset: ONNX operator set.
        simplify: whether the traced graph is slimmed.
    """

    name: str
    audience: str
    opset: int
    simplify: bool


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
class ExportReport:
    """What was exported and how it was proved; `best.json` beside the file holds the same.

    Attributes:
        path: the exported file.
        proof: the JSON file beside it.
        source: the checkpoint.
        target: name of the target.
        imgsz: height and width of the input, in pixels.
        end2end: whether the file holds the one-to-one branch, which needs no NMS.
        names: class index to name.
        opset: ONNX operator set.
        file_bytes: size of the file.
        sha256: of the file.
        source_sha256: of the checkpoint.
        pictures: names of the pictures it was proved on.
        box_px: largest difference of the raw output's boxes, in pixels of the input.
        score: largest difference of the raw output's scores.
        detections: what came out after post-processing, at one or two thresholds.
        tolerances: what `box_px` and `score` were allowed to be.
        versions: of everything that had a part in it.
        seconds: wall-clock time.
    """

    path: str
    proof: str
    source: str
    target: str
    imgsz: tuple[int, int]
    end2end: bool
    names: dict[int, str]
    opset: int
    file_bytes: int
    sha256: str
    source_sha256: str
    pictures: tuple[str, ...]
    box_px: float
    score: float
    detections: tuple[Comparison, ...]
    tolerances: dict[str, float]
    versions: dict[str, str]
    seconds: float

    def summary(self) -> str:
        """Return the report in a few lines for a terminal."""
        branch = "one-to-one branch, no NMS needed" if self.end2end else "one-to-many branch, NMS in the runtime"
        lines = [
            f"{self.path}: {self.file_bytes / 1e6:.1f} MB, {self.imgsz[0]}x{self.imgsz[1]} px, opset {self.opset}",
            branch,
            f"proved on {len(self.pictures)} pictures: boxes differ by at most {self.box_px:.2g} px "
            f"(allowed {BOX_TOLERANCE:g}), scores by {self.score:.2g} (allowed {SCORE_TOLERANCE:g})",
        ]
        for part in self.detections:
            edge = f", {part.borderline} on a threshold" if part.borderline else ""
            lines.append(
                f"detections at conf {part.conf:.3g}: {part.same} of {max(part.torch, part.file)} the same{edge}, "
                f"within {part.box_px:.2g} px and {part.score:.2g}"
            )
        return "\n".join([*lines, f"proof: {self.proof}"])


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


def export(
    model_path: str | Path,
    *,
    imgsz: int | str | Sequence[int] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    nms: bool | None = None,
    target: str = "cpu",
    opset: int | None = None,
    trust: bool = False,
) -> ExportReport:
    """Export a checkpoint to ONNX and prove the file; a file that was there before stays until the new one passed.

    Args:
        model_path: a `.pt` file.
        imgsz: side of the square, or height and width, in pixels; by default what the model was trained at.
        data: data set file whose `val` pictures (up to 32, evenly picked) it is proved on; without it the pictures
            in the host's package, or drawn ones where there are none.
        out: the `.onnx` file, or a folder for it; by default beside the checkpoint and named like it.
        nms: None exports the one-to-many branch, whose boxes the runtime filters with NMS; False the one-to-one
            branch of an end-to-end model (v10, 26).
        target: name of a file in `export/`.
        opset: ONNX operator set; the target's when not given.
        trust: load the checkpoint without the allow-list.

    Raises:
        RequestError: something about the checkpoint, the data or a setting has to change first.
        DistillError: tracing failed, or the file does not answer like the checkpoint; no file is left.
    """
    started = time.perf_counter()
    for package in ("onnx", "onnxslim", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "export")
    plan = load_target(target)
    model = load_detector(model_path, trust=trust)
    if nms:
        raise RequestError(
            "nms=true: NMS is done by the runtime, not in the file; use nms=none, or nms=false (v10, 26)"
        )
    head = model.model[-1]
    if nms is False and getattr(head, "one2one_cv2", None) is None:
        raise RequestError(f"nms=false: {model_path} has no one-to-one branch; leave nms= out")
    if nms is None and getattr(head, "cv2", None) is None:
        raise RequestError(f"nms=none: {model_path} was fused and has only its one-to-one branch left; use nms=false")
    size = input_size(imgsz, model)
    pictures = _proof_pictures(data)
    path = _destination(out, Path(model.pt_path))
    with _workspace(path, out) as folder:
        try:
            draft = _trace(model, folder, path.stem, size, nms, opset or plan.opset, plan.simplify)
            source_sha256 = _sha256(Path(model.pt_path))
            _annotate(draft, Path(model.pt_path).name, source_sha256)
            box_px, score, detections = prove(draft, model, pictures, nms=nms)
            report = ExportReport(
                path=str(path),
                proof=str(path.with_suffix(".json")),
                source=str(model_path),
                target=plan.name,
                imgsz=size,
                end2end=nms is False,
                names=dict(model.names),
                opset=opset or plan.opset,
                file_bytes=draft.stat().st_size,
                sha256=_sha256(draft),
                source_sha256=source_sha256,
                pictures=tuple(name for name, _ in pictures),
                box_px=box_px,
                score=score,
                detections=detections,
                tolerances={"box_px": BOX_TOLERANCE, "score": SCORE_TOLERANCE},
                versions=_versions(),
                seconds=round(time.perf_counter() - started, 2),
            )
            note = folder / "proof.json"
            note.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")
            draft.replace(path)
            note.replace(path.with_suffix(".json"))
        except OSError as error:
            raise DistillError(f"writing {path} failed ({error.strerror or one_line(error)})") from error
    return report


def load_target(name: str) -> Target:
    """Read a target file of `export/`.

    Raises:
        RequestError: there is no such target, or this exporter cannot make what it asks for.
    """
    known = {file.stem: file for file in export_dir().glob("*.yaml")}
    if name not in known:
        raise RequestError(f"target={name}: unknown{did_you_mean(name, known)} (known: {', '.join(sorted(known))})")
    plan = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    made = {"format": "onnx", "precision": "fp32", "dynamic": False}
    for key, value in made.items():
        if plan.get(key) != value:
            raise RequestError(
                f"target={name}: {key} is {plan.get(key)!r} in {known[name]}, only {value!r} is made here"
            )
    return Target(name, str(plan["for"]), int(plan["opset"]), bool(plan["simplify"]))


def input_size(imgsz: int | str | Sequence[int] | None, model: DetectionModel) -> tuple[int, int]:
    """Return height and width of the network's input in pixels.

    Args:
        imgsz: a number, `"h,w"`, two numbers, or None for what `model` was trained at (640 where it does not say).
        model: gives the stride that both sides have to be multiples of.

    Raises:
        RequestError: not one or two whole numbers, or sizes that the model does not take.
    """
    stride = max(int(model.stride.max()), 32)
    if imgsz is None:
        trained = trained_imgsz(model) or 640
        sides = [trained] if isinstance(trained, int) else list(trained)
        sides = [-(-side // stride) * stride for side in sides]  # the host trains at the next multiple as well
    else:
        try:
            words = imgsz.strip("[]() ").replace("x", ",").split(",") if isinstance(imgsz, str) else imgsz
            sides = [int(side) for side in (words if isinstance(words, Sequence) else [words])]
        except (TypeError, ValueError):
            sides = []
        if len(sides) not in {1, 2}:
            raise RequestError(f"imgsz={imgsz}: expected a number of pixels, or height,width")
    for side in sides:
        if not 0 < side <= _LARGEST_SIDE or side % stride:
            below = min(max(stride, side // stride * stride), _LARGEST_SIDE - stride)
            raise RequestError(
                f"imgsz={side}: the model takes multiples of {stride} up to {_LARGEST_SIDE}, "
                f"such as {below} or {below + stride}"
            )
    return sides[0], sides[-1]


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
    from yolo_distill.runtime.detector import Detector

    reference: Any = copy.deepcopy(model).cpu().float().eval()
    reference.end2end = nms is False
    try:
        detector = Detector(file)
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
        boxes, scores = _raw_difference(ours, theirs, nms)
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


def _raw_difference(ours: Rows, theirs: Rows, nms: bool | None) -> tuple[float, float]:
    """Return the largest differences of boxes and scores between two raw answers of one picture."""
    if nms is None:  # (1, 4 + nc, A): anchors in the same order on both sides
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
    if not len(rows) or not len(others):
        return [], list(range(len(rows))), list(range(len(others)))
    gap = np.abs(rows[:, None, :4].astype(np.float64) - others[None, :, :4]).max(-1)
    near = (gap <= box_tolerance) & (np.abs(rows[:, None, 4] - others[None, :, 4]) <= SCORE_TOLERANCE)
    gap = np.where(near & (rows[:, None, 5] == others[None, :, 5]), gap, np.inf)
    pairs = []
    for a in range(len(rows)):
        b = int(gap[a].argmin())
        if np.isfinite(gap[a, b]):
            pairs.append((a, b))
            gap[:, b] = np.inf
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


def _trace(
    model: DetectionModel, folder: Path, stem: str, size: tuple[int, int], nms: bool | None, opset: int, simplify: bool
) -> Path:
    """Let the host trace `model` into `folder`."""
    settings = {
        "task": "detect",
        "mode": "export",
        "format": "onnx",
        "imgsz": list(size),
        "batch": 1,
        "dynamic": False,
        "simplify": simplify,
        "nms": nms,
        "opset": opset,
        "device": "cpu",
        "max_det": MAX_DET,
    }
    traced: Any = copy.deepcopy(model)
    traced.pt_path = str(folder / f"{stem}.pt")  # the host writes beside it
    before = LOGGER.level
    LOGGER.setLevel(max(before, logging.ERROR))
    try:
        with no_auto_install(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(Exporter(overrides=settings)(model=traced))
    except OSError:
        raise
    except Exception as error:
        raise DistillError(f"tracing the model failed: {type(error).__name__}: {one_line(error)}") from error
    finally:
        LOGGER.setLevel(before)
    if not file.is_file():
        raise DistillError(f"the host's exporter left no file at {file.name}")
    return file


def _annotate(file: Path, source: str, source_sha256: str) -> None:
    """Add to the metadata who made the file, and from what."""
    import onnx

    graph = onnx.load(str(file))
    notes = {note.key: note.value for note in graph.metadata_props}
    notes |= {
        # The host's description holds the path of the training data.
        "description": f"{source}, exported by yolo-distill",
        "author": "yolo-distill",
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "source": source,
        "source_sha256": source_sha256,
    }
    with contextlib.suppress(ValueError, SyntaxError):
        # Settings that were meant for the host's exporter; the data set's path is nobody's business.
        notes["args"] = str({key: value for key, value in ast.literal_eval(notes["args"]).items() if key != "data"})
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, notes)
    onnx.save(graph, str(file))


def _proof_pictures(data: str | Path | None) -> list[tuple[str, Any]]:
    """Return up to 32 names and BGR pictures."""
    if data is not None:
        files = pictures_of(check_data(data, "val", need_labels=False), "val", f"data={data}")
        files = [files[int(at)] for at in np.linspace(0, len(files) - 1, min(len(files), _MOST_PICTURES))]
    else:
        files = [str(file) for file in sorted((ROOT / "assets").glob("*.jpg"))]
    pictures = [(Path(file).name, cv2.imread(file, cv2.IMREAD_COLOR)) for file in files]
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


def _destination(out: str | Path | None, source: Path) -> Path:
    if out is None:
        return source.with_suffix(".onnx")
    path = Path(out).expanduser()
    if path.is_dir():
        return path / f"{source.stem}.onnx"
    if path.suffix.lower() != ".onnx":
        raise RequestError(f"out={out}: give the name of an .onnx file, or a folder that exists")
    return path


@contextlib.contextmanager
def _workspace(path: Path, out: str | Path | None) -> Iterator[Path]:
    """Give a temporary folder on the same disk as `path`, so that the finished file can be moved in one step."""
    said = f"out={out}" if out is not None else f"{path}"
    if not path.parent.is_dir():
        raise RequestError(f"{said}: there is no folder {path.parent}; make it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-export-", dir=path.parent))
    except OSError as error:
        raise RequestError(f"{said}: cannot write into {path.parent} ({error.strerror}); give another out=") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxslim", "onnxruntime", "numpy")
    return {
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "python": platform.python_version(),
        **{package: str(importlib.import_module(package).__version__) for package in packages},
    }
