"""One detector, called from many threads at once: each call gets its own picture's answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from made_detector import dense, write_detector

from yolo_distill import Detector

CALLERS, CALLS = 8, 30


@pytest.fixture(params=[(False, None), (True, None), (False, 2)], ids=["float", "half", "batch"])
def detector(request, tmp_path):
    """A network whose scores and boxes are the picture's brightness."""
    half, batch = request.param
    raw, gain = dense(*[(16, 32, 8, 8, 0, 0, 0)] * 12), np.zeros((7, 40), np.float32)
    gain[4:, ::3] = np.random.default_rng(0).uniform(0.3, 1, gain[4:, ::3].shape)
    gain[:4, ::3] = np.random.default_rng(1).uniform(0, 60, gain[:4, ::3].shape)
    return Detector(write_detector(tmp_path / "a.onnx", raw, gain=gain, half=half, batch=batch), threads=1)


@pytest.fixture(scope="module")
def images():
    """Pictures of many sizes and brightnesses."""
    random = np.random.default_rng(2)
    noise = random.integers(0, 256, (400, 400, 3), dtype=np.uint8)
    sizes = random.integers(1, 400, (CALLERS * CALLS, 2))
    levels = np.linspace(0.5, 1, len(sizes))
    return [cv2.convertScaleAbs(noise[:h, :w], alpha=a) for (h, w), a in zip(sizes.tolist(), levels, strict=True)]


def same(found, expected):
    for name in ("xyxy", "confidence", "class_id"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_threads(detector, images):
    expected = [detector(image, conf=0.05) for image in images]
    assert len({one.confidence.tobytes() for one in expected}) > len(images) / 2  # they differ from each other
    barrier = threading.Barrier(CALLERS)

    def call(who):
        barrier.wait(timeout=60)
        return [(place, detector(images[place], conf=0.05)) for place in range(who, len(images), CALLERS)]

    with ThreadPoolExecutor(CALLERS) as pool:
        for results in pool.map(call, range(CALLERS)):
            for place, found in results:
                same(found, expected[place])


def test_what_was_returned_stays(detector, images):
    """Neither inputs nor answers are overwritten by the next call."""
    prepared = [detector.preprocess(image) for image in images[:20]]
    answers = [detector.infer(tensor) for tensor, _ in prepared]
    kept = [answer.copy() for answer in answers]
    detector(images[20:30])
    for (tensor, transform), answer, copy, image in zip(prepared, answers, kept, images[:20], strict=True):
        np.testing.assert_array_equal(answer, copy)
        np.testing.assert_array_equal(tensor, detector.preprocess(image)[0])
        same(detector.postprocess(answer, [transform], conf=0.05)[0], detector(image, conf=0.05))
