"""Which frames of a video are looked at, and which look alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from made_labelling import write_film

from yolo_distill.labelling.frames import KEPT, Frames, dhash
from yolo_distill.runtime.capture import open_video


class Shown:
    """A video of given pictures."""

    total = None

    def __init__(self, *pictures: np.ndarray) -> None:
        self.read = iter([*pictures, None]).__next__

    def skip(self, count: int) -> int:
        return count


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8), size)


def test_what_moves_few_bits_and_what_moves_many():
    slope = np.repeat(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], 80, 0).repeat(3, 2)
    assert (dhash(slope), dhash(slope[:, ::-1].copy())) == (2**64 - 1, 0)
    scene = noise(0, (640, 480))
    coarse = cv2.imdecode(cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1)
    for alike in (coarse, (scene * 0.8).astype(np.uint8), cv2.resize(scene, (320, 240))):
        assert (dhash(scene) ^ dhash(alike)).bit_count() <= 4
    assert (dhash(scene) ^ dhash(scene[:, ::-1].copy())).bit_count() > 15


@pytest.mark.parametrize(("similar", "again"), [(4, False), (0, True)])
def test_a_scene_counts_anew_once_it_was_left_for_long(similar, again):
    others = [noise(seed) for seed in range(1, KEPT + 1)]
    frames = Frames(Shown(noise(0), noise(0), *others, noise(0)), 1, similar)
    assert [new for *_, new in frames] == [True, again, *[True] * KEPT, True]


def test_every_third_frame(tmp_path):
    with open_video(write_film(tmp_path / "a.avi", 11, change=6)) as capture:
        frames = Frames(capture, 3, 4)
        assert [(number, new) for number, _, new in frames] == [(1, True), (4, False), (7, True), (10, False)]
        assert (frames.seen, frames.cut_off) == (11, None)
        capture.total = 20
        assert frames.cut_off == "ends at frame 11 of 20; the frames before it are used"
