"""A small picture with what was found: labels in full lines, boxes that just missed their threshold in broken ones."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from yolo_distill.labelling.objects import Form
from yolo_distill.labelling.parquet import Row
from yolo_distill.labelling.statistics import NEAR
from yolo_distill.labelling.thresholds import hard_labels
from yolo_distill.runtime.drawing import Colour, colour_of, dot, draw_shapes, write_labels
from yolo_distill.runtime.letterbox import Floats, Picture
from yolo_distill.runtime.sources import read_picture
from yolo_distill.runtime.writers import encoded, reduced

_SIDE, _QUALITY = 480, 78
_LINE, _DASH, _STEP = 2, 6, 14  # pixels; a dash begins every so many
_LETTERS = 0.38  # their size by OpenCV's own


def thumbnail(row: Row, images: Path, names: Sequence[str], thresholds: Floats, form: Form) -> str | None:
    """Return a row as a JPEG file in base64, or None where the picture is not there any more.

    Of the folder of the data set's pictures, class names, and the score from which on a box of each class is a label,
    and the form of the labels.
    """
    picture = read_picture(str(images / row.file) if row.file else row.source)
    if picture is None:
        return None
    canvas, scale = reduced(picture, _SIDE)
    classes, margins = hard_labels(row.found.scores, thresholds)
    sure = margins >= 0
    drawn = form.detections(row.found, classes, canvas.shape[:2], scale)
    order = np.argsort(-margins, kind="stable")
    near = order[(margins[order] < 0) & (margins[order] >= -NEAR)]
    for one in reversed(list(drawn[near])):  # labels are drawn last, and of them the surest
        (box,) = one.xyxyxyxy if one.turned is not None else one.xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(1, 4, 2)
        _broken(canvas, box, colour_of(int(one.class_id[0])))
    kept = drawn[order[sure[order]]]
    draw_shapes(canvas, kept, _LINE)
    if kept.keypoints is not None:
        dot(canvas, kept.keypoints, [colour_of(column) for column in kept.class_id.tolist()], _LINE)
    labels = [
        (f"{names[column]} {score:.2f}", tuple(box), colour_of(column))
        for one in (kept, drawn[near])
        for column, score, box in zip(
            one.class_id.tolist(), one.confidence.tolist(), np.rint(one.xyxy).astype(int).tolist(), strict=True
        )
    ]
    write_labels(canvas, labels, _LETTERS, 1)
    return base64.b64encode(encoded(canvas, ".jpg", _QUALITY)).decode()


def _broken(canvas: Picture, box: Floats, colour: Colour) -> None:
    """Draw dashes around a box of four corners (4, 2)."""
    for start, end in zip(box, np.roll(box, -1, 0), strict=True):
        length = float(np.hypot(*(end - start)))
        for at in range(0, int(length), _STEP):
            ends = (np.rint(start + (end - start) * along / length) for along in (at, min(at + _DASH, length)))
            first, last = ((int(x), int(y)) for x, y in ends)
            cv2.line(canvas, first, last, colour, _LINE)
