"""The newest frame, or every frame."""

from __future__ import annotations

import time

import numpy as np
import pytest
from made_detector import write_video

from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.frame_reader import read_frames


def level(shot):
    """Return the number of a frame as its brightness says it."""
    return round(float(shot.image.mean()) / 10)


def taken(frames, pause=0.0):
    """Return all frames that a viewer gets who needs `pause` seconds for each."""
    shots = []
    while not frames.ended:
        if shot := frames.take(0.2):
            shots.append(shot)
            time.sleep(pause)
    assert frames.close(5)
    assert [level(shot) for shot in shots] == [shot.number % 25 for shot in shots]  # the right picture under its number
    return shots


class Camera:
    """A live source of five frames, the last of which only comes after a while."""

    live, fps = True, 30.0

    def __init__(self):
        self.given = 0

    def read(self):
        self.given += 1
        time.sleep(0.5 if self.given == 5 else 0)
        return np.full((2, 2, 3), 10 * (self.given - 1), np.uint8) if self.given <= 5 else None


def test_a_slow_viewer_of_a_camera_sees_the_newest_frame():
    frames = read_frames(Camera(), newest=True)
    time.sleep(0.2)
    shots = taken(frames)
    assert [shot.number for shot in shots] == [3, 4]
    assert shots[0].taken <= time.monotonic()
    assert shots[1].at - shots[0].at > 0.3  # by the clock on the wall
    assert frames.dropped == 3


def test_closing_does_not_wait_for_the_video(tmp_path):
    frames = read_frames(open_video(write_video(tmp_path / "a.avi", frames=50, fps=0.2)), newest=True)
    assert frames.take(20).number == 0
    assert frames.close(4)


class SlowFile:
    """A video of 30 frames, 50 a second, that takes longer to decode than to play; skipping is quick."""

    live, fps, total = False, 50.0, 30

    def __init__(self):
        self.place, self.skipped = 0, 0

    def read(self):
        time.sleep(0.07)
        self.place += 1
        return np.full((2, 2, 3), 10 * ((self.place - 1) % 25), np.uint8) if self.place <= self.total else None

    def skip(self, count):
        done = min(count, self.total - self.place)
        self.place, self.skipped = self.place + done, self.skipped + done
        return done


def test_a_video_that_decodes_too_slowly_keeps_its_time():
    file = SlowFile()
    started = time.monotonic()
    frames = read_frames(file, newest=True)
    shots = taken(frames)
    assert file.skipped >= 10
    assert time.monotonic() - started < 30 * 0.07  # all of it would take longer
    assert len(shots) + frames.dropped == 30


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_that_loops(tmp_path, suffix):
    capture = open_video(write_video(tmp_path / f"a{suffix}", frames=5, fps=10))
    capture.loop = True
    frames = read_frames(capture, newest=False)
    shots = [frames.take(20) for _ in range(13)]
    assert frames.close(5)
    assert [(shot.number, shot.at) for shot in shots] == [(number, number / 10) for number in range(13)]
    assert [level(shot) for shot in shots] == [number % 5 for number in range(13)]


def test_skipping_over_the_end_of_a_video_that_loops(tmp_path):
    with open_video(write_video(tmp_path / "a.avi", frames=5)) as capture:
        assert capture.skip(7) == 5
    with open_video(tmp_path / "a.avi") as capture:
        capture.loop = True
        assert capture.skip(12) == 12
        assert round(float(capture.read().mean()) / 10) == 2


def test_a_video_that_loops_and_goes_away(tmp_path):
    with open_video(write_video(tmp_path / "a.avi", frames=3)) as capture:
        capture.loop = True
        (tmp_path / "a.avi").unlink()
        assert [capture.read() is None for _ in range(5)] == [False, False, False, True, True]
        assert capture.skip(4) == 0
