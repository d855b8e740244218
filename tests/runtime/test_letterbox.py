"""The letterbox, pixel by pixel; where a picture comes to lie, and back, is in `tests/golden/transform.json`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_distill.runtime.letterbox import PADDING, letterbox


@pytest.mark.parametrize("shape", [(480, 640), (33, 64), (64, 33), (64, 96), (97, 211), (1, 300), (300, 1), (1, 1)])
@pytest.mark.parametrize("view", [False, True])
def test_the_pixels(shape, view):
    """The same as OpenCV's own resize and border, in an array of its own or straight into memory that is there."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = image[::-1, ::-1] if view else image
    batch = np.full((2, 64, 96, 3), 7, np.uint8)
    canvas, transform = letterbox(image, (64, 96), batch[1])
    (tall, wide), top, left = transform.resized, transform.top, transform.left
    resized = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)
    edges = (top, 64 - tall - top, left, 96 - wide - left)
    expected = cv2.copyMakeBorder(resized, *edges, cv2.BORDER_CONSTANT, value=(PADDING,) * 3)
    np.testing.assert_array_equal(batch[1], expected)
    assert (batch[0] == 7).all()
    assert canvas.base is batch
    np.testing.assert_array_equal(letterbox(image, (64, 96))[0], expected)
