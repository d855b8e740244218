"""Frames that look alike are told from those that do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_distill.labelling.frames import Frames
from yolo_distill.labelling.hashes import KEPT, Novelty, dhash
from yolo_distill.runtime.capture import open_video


@pytest.fixture
def scene():
    """Return a picture of blurred noise."""
    return cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8), (640, 480))


def distance(a, b):
    return (dhash(a) ^ dhash(b)).bit_count()


def test_a_slope_by_hand():
    slope = np.repeat(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], 80, 0).repeat(3, 2)
    assert dhash(slope) == 2**64 - 1
    assert dhash(slope[:, ::-1].copy()) == 0


def test_what_moves_few_bits_and_what_moves_many(scene):
    _, data = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 40])
    assert distance(scene, cv2.imdecode(data, 1)) <= 4
    assert distance(scene, (scene * 0.8).astype(np.uint8)) <= 4
    assert distance(scene, cv2.resize(scene, (320, 240))) <= 4
    assert distance(scene, scene[:, ::-1].copy()) > 15


def test_a_scene_counts_anew_once_it_was_left_for_long(scene):
    new = Novelty(4)
    assert [new(scene), new(scene)] == [True, False]
    random = np.random.default_rng(1)
    others = [cv2.resize(random.integers(0, 256, (9, 12, 3), dtype=np.uint8), (64, 48)) for _ in range(KEPT)]
    assert sum(map(new, others)) == KEPT
    assert new(scene)
    assert [Novelty(0)(scene) for _ in range(2)] == [True, True]


def test_every_third_frame(tmp_path):
    from made_labelling import write_film

    with open_video(write_film(tmp_path / "a.avi", 11, change=6)) as capture:
        frames = Frames(capture, 3, 4)
        assert [(frame.number, frame.new) for frame in frames] == [(1, True), (4, False), (7, True), (10, False)]
        assert frames.seen == 11
        assert frames.cut_off is None
        capture.total = 20
        assert frames.cut_off == "ends at frame 11 of 20; the frames before it are used"
