"""Fits a picture into the network's input without distorting it, and takes boxes back to the picture."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the input that show the picture."""
        (tall, wide), top, left = self.resized, self.top, self.left
        return slice(top, top + tall), slice(left, left + wide)

    @property
    def padding(self) -> tuple[tuple[slice, slice], ...]:
        """Rows and columns of the four edges around the picture; together all that `inside` is not."""
        rows, columns = self.inside
        everything = slice(None)
        return (
            (slice(0, rows.start), everything),
            (slice(rows.stop, None), everything),
            (rows, slice(0, columns.start)),
            (rows, slice(columns.stop, None)),
        )

    def to_picture(self, xyxy: Floats) -> Floats:
        """Return boxes (N, 4) in pixels of the picture, cut off at its borders, from boxes in pixels of the input."""
        return self.points_to_picture(xyxy.reshape(-1, 2, 2)).reshape(-1, 4)

    def points_to_picture(self, points: Floats) -> Floats:
        """Return points (..., 2), x and y, in pixels of the picture, inside it, from points in pixels of the input."""
        limit = np.array(self.picture[::-1], np.float32)
        moved: Floats = np.clip(self.points_around_picture(points), np.float32(0), limit)
        return moved.astype(np.float32, copy=False)

    def points_around_picture(self, points: Floats) -> Floats:
        """Return points (..., 2) in pixels of the picture, which they may leave, likewise."""
        return (points - self._offset) / self._scale

    def turned_to_picture(self, xywhr: Floats) -> Floats:
        """Return turned boxes (N, 5) in pixels of the picture, which they may leave, likewise."""
        centre, sides = self.points_around_picture(xywhr[:, :2]), xywhr[:, 2:4] / self._scale
        return np.concatenate([centre, sides, xywhr[:, 4:]], 1)

    @property
    def _offset(self) -> Floats:
        return np.array([self.left, self.top], np.float32)

    @property
    def _scale(self) -> Floats:
        """Pixels of the input to one of the picture; the two sides are rounded apart, so each has its own."""
        (height, width), (tall, wide) = self.picture, self.resized
        return np.array([wide / width, tall / height], np.float32)


def fit(picture: tuple[int, int], size: tuple[int, int]) -> Transform:
    """Return how a picture of the given (height, width) is laid into an input of `size`: as large as fits, centred."""
    ratio = min(size[0] / picture[0], size[1] / picture[1])
    tall, wide = (max(round(side * ratio), 1) for side in picture)
    # An odd row or column of padding goes below and to the right.
    top, left = (round((whole - part) / 2 - 0.1) for whole, part in zip(size, (tall, wide), strict=True))
    return Transform(picture, size, (tall, wide), top, left)


def resize(image: Picture, transform: Transform, into: Picture | None = None) -> Picture:
    """Return `image` (H, W, 3) at the size that it has inside the input; itself if it has that size.

    Args:
        image: the picture.
        transform: how it is going to lie.
        into: where to put it, (tall, wide, 3), instead of into an array of its own.
    """
    if transform.resized == transform.picture:
        if into is not None:
            into[:] = image
        return image
    tall, wide = transform.resized
    resized: Picture = cv2.resize(image, (wide, tall), dst=into, interpolation=cv2.INTER_LINEAR)
    return resized


def letterbox(image: Picture, size: tuple[int, int], canvas: Picture | None = None) -> tuple[Picture, Transform]:
    """Return `image` (H, W, 3) resized and padded to `size` (height, width), and how it lies there.

    Args:
        image: the picture, uint8.
        size: of the result, in pixels.
        canvas: where to put the result, (height, width, 3), instead of into an array of its own; all of it is written.
    """
    transform = fit((image.shape[0], image.shape[1]), size)
    if canvas is None:
        canvas = np.empty((*size, 3), np.uint8)
    resize(image, transform, into=canvas[transform.inside])
    for edge in transform.padding:
        canvas[edge] = PADDING
    return canvas, transform
