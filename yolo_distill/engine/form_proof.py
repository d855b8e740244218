"""The proof that a file in another form, of its input or of the file, answers like the ONNX file it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_distill.engine.agreement import agreement
from yolo_distill.engine.proof import BOX_TOLERANCE, SCORE_TOLERANCE, raw_difference
from yolo_distill.errors import DistillError
from yolo_distill.runtime.detector import Detector


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
