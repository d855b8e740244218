"""Fits a picture into the network's input without distorting it, and takes boxes back to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

PADDING = 114  # the grey that the host trains with


@dataclass(frozen=True)
class Transform:
    """How a picture lies in the network's input; all sizes are (height, width) in pixels.

    Attributes:
        picture: size of the picture.
        input: size of the network's input.
        resized: size of the picture inside the input.
        top: rows of padding above it.
        left: columns of padding to its left.
    """

    picture: tuple[int, int]
    input: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int

    def to_picture(self, xyxy: Floats) -> Floats:
        """Return boxes (N, 4) in pixels of the picture, cut off at its borders, from boxes in pixels of the input."""
        (height, width), (tall, wide) = self.picture, self.resized
        offset = np.array([self.left, self.top] * 2, np.float32)
        # The two sides are rounded apart, so each has a scale of its own.
        scale = np.array([wide / width, tall / height] * 2, np.float32)
        limit = np.array([width, height] * 2, np.float32)
        moved: Floats = np.clip((xyxy - offset) / scale, np.float32(0), limit).astype(np.float32, copy=False)
        return moved


def fit(picture: tuple[int, int], size: tuple[int, int]) -> Transform:
    """Return how a picture of the given (height, width) is laid into an input of `size`: as large as fits, centred."""
    ratio = min(size[0] / picture[0], size[1] / picture[1])
    tall, wide = (max(round(side * ratio), 1) for side in picture)
    # An odd row or column of padding goes below and to the right.
    top, left = (round((whole - part) / 2 - 0.1) for whole, part in zip(size, (tall, wide), strict=True))
    return Transform(picture, size, (tall, wide), top, left)


def letterbox(image: Picture, size: tuple[int, int]) -> tuple[Picture, Transform]:
    """Return `image` (H, W, 3) resized and padded to `size` (height, width), and how it lies there."""
    height, width = image.shape[:2]
    transform = fit((height, width), size)
    tall, wide = transform.resized
    canvas: Any = image
    if (height, width) != (tall, wide):
        canvas = cv2.resize(canvas, (wide, tall), interpolation=cv2.INTER_LINEAR)
    bottom, right = size[0] - tall - transform.top, size[1] - wide - transform.left
    if transform.top or transform.left or bottom or right:
        edges = (transform.top, bottom, transform.left, right)
        canvas = cv2.copyMakeBorder(canvas, *edges, cv2.BORDER_CONSTANT, value=(PADDING,) * 3)
    return canvas, transform
