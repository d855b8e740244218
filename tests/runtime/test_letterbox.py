"""The letterbox: where a picture comes to lie, and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_distill.runtime.letterbox import PADDING, fit, letterbox


@pytest.mark.parametrize(
    ("picture", "size", "resized", "top", "left"),
    [
        ((480, 640), (192, 192), (144, 192), 24, 0),
        ((640, 480), (192, 192), (192, 144), 0, 24),
        ((64, 64), (64, 64), (64, 64), 0, 0),
        ((10, 10), (64, 64), (64, 64), 0, 0),  # small pictures are enlarged
        ((33, 64), (64, 64), (33, 64), 15, 0),  # 31 rows of padding: 15 above, 16 below
        ((1, 3000), (64, 64), (1, 64), 31, 0),  # never thinner than a pixel
        ((3000, 1), (64, 96), (64, 1), 0, 47),
        ((100, 100), (64, 128), (64, 64), 0, 32),  # (height, width), not a square
    ],
)
def test_fit(picture, size, resized, top, left):
    transform = fit(picture, size)
    assert (transform.resized, transform.top, transform.left) == (resized, top, left)
    inside = [left, top, left + resized[1], top + resized[0]]
    back = transform.to_picture(np.array([inside], np.float32))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, [[0, 0, picture[1], picture[0]]], rtol=1e-5, atol=1e-3)


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


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (np.zeros((0, 4)), np.zeros((0, 4))),
        ([[0, 24, 96, 168]], [[0, 0, 320, 480]]),
        ([[-50, -50, 500, 500]], [[0, 0, 640, 480]]),  # cut off at the picture's border
        ([[10, 0, 20, 20]], [[33.3333, 0, 66.6667, 0]]),  # in the padding: nothing left of it
    ],
)
def test_to_picture(boxes, expected):
    transform = fit((480, 640), (192, 192))
    back = transform.to_picture(np.array(boxes, np.float32).reshape(-1, 4))
    np.testing.assert_allclose(back, expected, atol=1e-3)
