"""The proof of an exported file: run beside torch on the very same input, compared raw and after post-processing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import DistillError
from yolo_distill.evaluation.detection_agreement import agreement
from yolo_distill.exporting.detection_parity import (
    TOLERANCES,
    Answer,
    Comparison,
    Gap,
    Rows,
    compare_detections,
    lower_threshold,
    pair,
)
from yolo_distill.exporting.task_parity import as_raw, own_gap, rows_of
from yolo_distill.models.tasks import task_of
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.metadata import shown
from yolo_distill.runtime.postprocess import Postprocess, Raw

CONF = 0.25  # the host's prediction default
_ENOUGH_DETECTIONS = 20


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
    comparisons = [compare_detections(detector, answers, CONF, noise)]
    if comparisons[0].torch < _ENOUGH_DETECTIONS:
        lower = lower_threshold(answers, noise.score, detector.meaning)
        comparisons.append(compare_detections(detector, answers, lower, noise))
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
        "names": (dict(detector.names), {index: shown(name) for index, name in model.names.items()}),
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
    pairs, alone_a, alone_b = pair(rows, others, TOLERANCES.box_px)
    last = max(rows[:, 4].min(), others[:, 4].min())
    alone = np.concatenate([rows[alone_a, 4], others[alone_b, 4]])
    if not pairs or not (alone <= last + TOLERANCES.score).all():
        return Gap(np.inf, np.inf)
    a, b = np.array(pairs).T
    boxes = Gap(float(np.abs(rows[a, :4] - others[b, :4]).max()), float(np.abs(rows[a, 4] - others[b, 4]).max()))
    return widest([boxes, Gap(*own_gap(rows[a, 6:].T, others[b, 6:].T, means))])


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
