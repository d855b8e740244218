"""Draws detections into a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.keypoints import PERSON, Keypoints
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.masks import Masks

Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_RATIO = 0.618034  # steps of this size round the colour circle never come close to each other soon
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def colour_of(class_id: int) -> Colour:
    """Return a class's colour: blue, green, red."""
    hue = (0.02 + class_id * _GOLDEN_RATIO) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if class_id % 2 else 0.7, 0.95)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw(image: Picture, detections: Detections) -> Picture:
    """Return a copy of `image` (H, W, 3) with what was found, names and confidences: boxes, masks and keypoints."""
    canvas: Picture = image.copy()
    line, scale, thickness = _sizes(canvas)
    colours = [colour_of(int(class_id)) for class_id in detections.class_id]
    boxes = [tuple(round(float(value)) for value in box) for box in detections.xyxy]
    draw_shapes(canvas, detections, line)
    labels = [
        (f"{name} {float(confidence):.2f}", box, colour)
        for name, confidence, box, colour in zip(
            detections.labels(), detections.confidence, boxes, colours, strict=True
        )
    ]
    write_labels(canvas, labels, scale, thickness)
    if detections.keypoints is not None:
        dot(canvas, detections.keypoints, colours, line)
    return canvas


def draw_shapes(canvas: Picture, detections: Detections, line: int) -> None:
    """Draw masks, and boxes or turned boxes, in place, with lines of so many pixels."""
    colours = [colour_of(int(class_id)) for class_id in detections.class_id]
    if detections.masks is not None:
        _tint(canvas, detections.masks, colours, line)
    turned = None if detections.turned is None else np.rint(detections.xyxyxyxy).astype(np.int32)
    # From the worst to the best, so that the best lies on top.
    for place, (x1, y1, x2, y2) in reversed(list(enumerate(np.rint(detections.xyxy).astype(int).tolist()))):
        if turned is None:
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colours[place], line)
        else:
            cv2.polylines(canvas, [turned[place]], True, colours[place], line, cv2.LINE_AA)


def _tint(canvas: Picture, masks: Masks, colours: Sequence[Colour], line: int) -> None:
    """Mix each object with half of its colour, and draw its outline, in place."""
    for (top, left, bits), colour in reversed(list(zip(masks.pieces, colours, strict=True))):
        part = canvas[top : top + bits.shape[0], left : left + bits.shape[1]]
        np.copyto(part, (part // 2 + np.array(colour, np.uint8) // 2), where=bits[:, :, None])
        outlines, _ = cv2.findContours(bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(canvas, outlines, -1, colour, line, offset=(left, top))


def dot(canvas: Picture, keypoints: Keypoints, colours: Sequence[Colour], line: int) -> None:
    """Draw the keypoints that are seen, each in a colour of its own, and the bones of persons, in place."""
    count = keypoints.data.shape[1]
    for points, seen, colour in reversed(list(zip(np.rint(keypoints.xy), keypoints.seen, colours, strict=True))):
        places = [(int(x), int(y)) for x, y in points]
        for start, end in PERSON if count == 17 else ():
            if seen[start] and seen[end]:
                cv2.line(canvas, places[start], places[end], colour, line, cv2.LINE_AA)
        for number in np.flatnonzero(seen):
            cv2.circle(canvas, places[number], line + 1, colour_of(int(number)), -1, cv2.LINE_AA)


def draw_note(image: Picture, *lines: str) -> None:
    """Write lines of text into the upper left corner of `image`, in place."""
    _, scale, thickness = _sizes(image)
    top = 0
    for line in lines:
        top += _plate(image, line, (0, top), _BLACK, scale, thickness)


def write_labels(
    canvas: Picture, labels: Sequence[tuple[str, tuple[int, ...], Colour]], scale: float, thickness: int
) -> None:
    """Write each text on a ground of its colour beside its box, where it covers the others least.

    Args:
        canvas: (H, W, 3), changed in place.
        labels: text, box (x1, y1, x2, y2) in pixels and colour of each, the most important first: it has first choice.
        scale: of the letters, as OpenCV has it.
        thickness: of the letters' lines in pixels.
    """
    height, width = canvas.shape[:2]
    taken = np.empty((0, 4))
    for text, (x1, y1, x2, y2), _ in labels:
        wide, tall, _, _ = _plate_size(text, scale, thickness)
        # Above the box, inside it, and below it; at its left and at its right side.
        tops = [y1 - tall] * (y1 >= tall) + [y1, y2, y2 - tall]
        choices = np.array([(x, y) for y in tops for x in (x1, x2 - wide)])
        choices = np.clip(choices, 0, [max(width - wide, 0), max(height - tall, 0)])
        first, last = choices[:, None], choices[:, None] + (wide, tall)
        shared = np.minimum(last, taken[:, 2:]) - np.maximum(first, taken[:, :2])
        left, top = choices[shared.clip(min=0).prod(2).sum(1).argmin()]  # the first of equal ones
        taken = np.vstack([taken, (left, top, left + wide, top + tall)])
    for (text, _, colour), corner in reversed(list(zip(labels, taken[:, :2].astype(int).tolist(), strict=True))):
        _plate(canvas, text, (corner[0], corner[1]), colour, scale, thickness)


def _plate(canvas: Picture, text: str, corner: tuple[int, int], colour: Colour, scale: float, thickness: int) -> int:
    """Write `text` on a ground whose upper left corner is given; return the ground's height."""
    wide, tall, base, margin = _plate_size(text, scale, thickness)
    left, top = corner
    cv2.rectangle(canvas, corner, (left + wide, top + tall), colour, -1)
    blue, green, red = colour
    ink = _BLACK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else _WHITE
    cv2.putText(canvas, text, (left + margin, top + tall - base), _FONT, scale, ink, thickness, cv2.LINE_AA)
    return tall


def _plate_size(text: str, scale: float, thickness: int) -> tuple[int, int, int, int]:
    """Return width and height of the ground that `text` stands on, its depth below the baseline, and the margin."""
    (wide, tall), base = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(tall // 4, 2)
    return wide + 2 * margin, tall + base + margin, base, margin


def _sizes(image: Picture) -> tuple[int, float, int]:
    """Return the width of lines, the scale and the width of letters for a picture of this size."""
    side = (image.shape[0] + image.shape[1]) / 2
    return max(round(side / 350), 1), max(side / 1300, 0.35), max(round(side / 700), 1)
