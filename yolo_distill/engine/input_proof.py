"""The proof that a file that takes pictures as they are answers like the one that takes floats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_distill.engine.proof import BOX_TOLERANCE, SCORE_TOLERANCE, raw_difference
from yolo_distill.errors import DistillError
from yolo_distill.runtime.detector import Detector

_HALF_PX, _HALF_SCORE = 1.0, 1e-2  # eleven binary digits, through a hundred layers


def prove_same(file: Path, reference: Path, pictures: Sequence[tuple[str, Any]], *, half: bool = False) -> None:
    """Run two files of different input forms on the same pictures.

    Args:
        file: takes (1, H, W, 3) uint8.
        reference: takes (1, 3, H, W) floats.
        pictures: names and BGR pictures (H, W, 3).
        half: whether the files compute in fp16, where another order of the colours rounds differently.

    Raises:
        DistillError: their raw answers differ by more than the tolerances of the proof.
    """
    most_px, most_score = (_HALF_PX, _HALF_SCORE) if half else (BOX_TOLERANCE, SCORE_TOLERANCE)
    one, other = Detector(file), Detector(reference)
    for name, picture in pictures:
        answers = [detector.infer(detector.preprocess(picture)[0]) for detector in (one, other)]
        boxes, scores = raw_difference(*answers, end2end=one.end2end)
        if not (boxes <= most_px and scores <= most_score):  # nan is a mismatch as well
            raise DistillError(
                f"input=pictures: the file does not answer like the one that takes floats on {name}: boxes differ by "
                f"{boxes:.3g} px (allowed {most_px:g}), scores by {scores:.3g} (allowed {most_score:g}); "
                "no file is kept"
            )
