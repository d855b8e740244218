"""A small picture with its boxes: labels in full lines, boxes that just missed their threshold in broken ones."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from yolo_distill.labelling.dataset import encoded
from yolo_distill.labelling.inference import Floats
from yolo_distill.labelling.parquet import Row
from yolo_distill.labelling.statistics import NEAR
from yolo_distill.labelling.thresholds import hard_labels
from yolo_distill.runtime.drawing import Colour, colour_of, write_labels
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.sources import read_picture

_SIDE, _QUALITY = 480, 78
_LINE, _DASH, _STEP = 2, 6, 14  # pixels; a dash begins every so many
_LETTERS = 0.38  # their size by OpenCV's own


def thumbnail(row: Row, images: Path, names: Sequence[str], thresholds: Floats) -> str | None:
    """Return a row as a JPEG file in base64, or None where the picture is not there any more.

    Of the folder of the data set's pictures, class names, and the score from which on a box of each class is a label.
    """
    picture = read_picture(str(images / row.file) if row.file else row.source)
    if picture is None:
        return None
    scale = _SIDE / max(picture.shape[:2])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    canvas = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    classes, margins = hard_labels(row.found.scores, thresholds)
    boxes = np.rint(row.found.boxes * scale).astype(int)
    labels: list[tuple[str, tuple[int, ...], Colour]] = []
    # Labels are drawn last, and of them the surest.
    for place in np.argsort(margins, kind="stable").tolist():
        if margins[place] < -NEAR:
            continue
        column = int(classes[place])
        colour = colour_of(column)
        left, top, right, bottom = boxes[place].tolist()
        first, second = (left, top), (right, bottom)
        if margins[place] >= 0:
            cv2.rectangle(canvas, first, second, colour, _LINE)
        else:
            _broken(canvas, first, second, colour)
        text = f"{names[column]} {row.found.scores[place, column]:.2f}"
        labels.insert(0, (text, (left, top, right, bottom), colour))
    write_labels(canvas, labels, _LETTERS, 1)
    return base64.b64encode(encoded(canvas, ".jpg", _QUALITY)).decode()


def _broken(canvas: Picture, first: tuple[int, int], second: tuple[int, int], colour: Colour) -> None:
    """Draw a rectangle of dashes."""
    (left, top), (right, bottom) = first, second
    for x in range(left, right, _STEP):
        for y in (top, bottom):
            cv2.line(canvas, (x, y), (min(x + _DASH, right), y), colour, _LINE)
    for y in range(top, bottom, _STEP):
        for x in (left, right):
            cv2.line(canvas, (x, y), (x, min(y + _DASH, bottom)), colour, _LINE)
