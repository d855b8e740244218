"""What the demo shows: test pictures with the boxes that the exported file found."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from yolo_distill.errors import DistillError
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.drawing import draw
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.sources import read_picture
from yolo_distill.runtime.writers import write_picture

_ENLARGED = 3  # annotated pictures are this much larger than the drawn ones, so that names can be read
_SHEET = (3, 6)  # rows and columns of the contact sheet


def predict(detector: Detector, out: Path) -> tuple[int, float]:
    """Write every test picture with what was found, and a sheet of the first ones.

    Returns:
        the number of objects found, and the median time of the network in milliseconds.
    """
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    found, times, sheet = 0, [], []
    for file in sorted((out / "data" / "images" / "test").glob("*.jpg")):
        picture = read_picture(str(file))
        if picture is None:
            raise DistillError(f"{file}: cannot be decoded any more; was it changed while the demo ran?")
        tensor, transform = detector.preprocess(picture)
        before = time.perf_counter()
        raw = detector.infer(tensor)
        times.append(1000 * (time.perf_counter() - before))
        detections = detector.postprocess(raw, [transform])[0]
        found += len(detections)
        annotated = draw(*_enlarge(picture, detections))
        write_picture(folder / file.name, annotated)
        sheet.append(annotated)
    write_picture(out / "contact-sheet.jpg", contact_sheet(sheet, *_SHEET))
    return found, round(statistics.median(times), 3)


def contact_sheet(pictures: Sequence[Picture], rows: int, columns: int) -> Picture:
    """Return the first `rows * columns` pictures of one size side by side; empty places are black."""
    shown = list(pictures[: rows * columns])
    shown += [np.zeros_like(shown[0])] * (-len(shown) % columns)
    lines = [np.hstack(shown[start : start + columns]) for start in range(0, len(shown), columns)]
    return np.vstack(lines)


def _enlarge(picture: Picture, found: Detections) -> tuple[Picture, Detections]:
    size = (_ENLARGED * picture.shape[1], _ENLARGED * picture.shape[0])
    larger: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return larger, dataclasses.replace(found, xyxy=_ENLARGED * found.xyxy)
