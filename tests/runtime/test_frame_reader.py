"""The newest frame, or every frame."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from made_detector import write_video

from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.frame_reader import EveryFrame, NewestFrame


class Camera:
    """A live source that gives a frame when it is told to; a frame's level is its number."""

    live, fps, total, name = True, 30.0, None, "0"

    def __init__(self, error=None):
        self.given, self.closed, self.error = 0, False, error
        self._ready = threading.Semaphore(0)
        self._over = False

    def give(self, count=1):
        before = self.given
        for _ in range(count):
            self._ready.release()
        wait_for(lambda: self.given == before + count)

    def end(self):
        self._over = True
        self._ready.release()

    def read(self):
        while not self._ready.acquire(timeout=0.05):
            if self.closed:
                return None
        if self._over:
            if self.error:
                raise self.error
            return None
        self.given += 1
        return np.full((2, 2, 3), self.given - 1, np.uint8)

    def close(self):
        self.closed = True


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def settled(frames, camera, dropped):
    """Wait until the thread has put away the last frame it was given."""
    wait_for(lambda: frames.dropped == dropped)
    return camera


def test_a_slow_viewer_sees_the_newest_frame():
    camera = Camera()
    frames = NewestFrame(camera)
    camera.give(5)
    settled(frames, camera, 4)
    shot = frames.next(5)
    assert (shot.number, int(shot.image[0, 0, 0])) == (4, 4)
    assert shot.taken <= time.monotonic()
    assert frames.next(0.01) is None  # nothing new, and none twice
    assert not frames.ended
    camera.give(1)
    assert frames.next(5).number == 5
    assert frames.dropped == 4
    camera.end()
    frames.close()


def test_the_last_frame_comes_before_the_end():
    camera = Camera()
    frames = NewestFrame(camera)
    camera.give(1)
    camera.end()
    frames._thread.join(5)
    assert frames.next(5).number == 0
    assert not frames.ended
    assert frames.next(5) is None
    assert frames.ended
    frames.close()
    assert camera.closed


def test_an_error_of_the_thread_reaches_the_viewer():
    camera = Camera(error=OSError("unplugged"))
    frames = NewestFrame(camera)
    camera.end()
    with pytest.raises(OSError, match="unplugged"):
        frames.next(5)
    frames.close()


def test_closing_ends_the_thread(tmp_path):
    frames = NewestFrame(open_video(write_video(tmp_path / "a.avi", frames=50, fps=1)))
    assert frames.next(20).number == 0
    started = time.monotonic()
    frames.close()
    assert not frames._thread.is_alive()
    assert time.monotonic() - started < 4  # it does not wait for the video


def test_a_video_plays_at_its_own_speed(tmp_path):
    started = time.monotonic()
    frames = NewestFrame(open_video(write_video(tmp_path / "a.avi", frames=11, fps=10)))
    shots = []
    while not frames.ended:
        if shot := frames.next(0.2):
            shots.append((shot.number, shot.at, time.monotonic() - started))
    frames.close()
    numbers = [number for number, _, _ in shots]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + frames.dropped == 11
    for number, at, moment in shots:
        assert at == pytest.approx(number / 10)
        assert moment >= at  # never ahead of its time


def test_late_frames_of_a_video_are_dropped(tmp_path):
    frames = NewestFrame(open_video(write_video(tmp_path / "a.avi", frames=24, fps=50)))
    levels = []
    while not frames.ended:
        if shot := frames.next(0.2):
            levels.append((shot.number, round(float(shot.image.mean()) / 10)))
            time.sleep(0.1)  # a viewer that is five frames late each time
    frames.close()
    assert frames.dropped >= 10
    assert len(levels) + frames.dropped == 24
    assert all(number == level for number, level in levels)  # the right picture under each number


class SlowFile:
    """A video of 30 frames, 50 a second, that takes longer to decode than to play; skipping is quick."""

    live, fps, total, name = False, 50.0, 30, "slow.mp4"

    def __init__(self):
        self.place, self.skipped = 0, 0

    def read(self):
        time.sleep(0.07)
        if self.place >= self.total:
            return None
        self.place += 1
        return np.full((2, 2, 3), self.place - 1, np.uint8)

    def skip(self, count):
        done = min(count, self.total - self.place)
        self.place, self.skipped = self.place + done, self.skipped + done
        return done

    def close(self):
        pass


def test_a_video_that_decodes_too_slowly_keeps_its_time():
    file = SlowFile()
    started = time.monotonic()
    frames = NewestFrame(file)
    shots = []
    while not frames.ended:
        if shot := frames.next(0.2):
            shots.append(shot)
    frames.close()
    assert file.skipped >= 10
    assert time.monotonic() - started < 30 * 0.07  # all of it would take longer
    assert len(shots) + frames.dropped == 30
    assert [shot.number for shot in shots] == [int(shot.image[0, 0, 0]) for shot in shots]


def test_every_frame(tmp_path):
    frames = EveryFrame(open_video(write_video(tmp_path / "a.avi", frames=12, fps=10)))
    shots = []
    while not frames.ended:
        if shot := frames.next(20):
            shots.append((shot.number, shot.at, round(float(shot.image.mean()) / 10)))
            time.sleep(0.01)  # a viewer that is slower than the disk
    frames.close()
    assert shots == [(number, number / 10, number) for number in range(12)]
    assert frames.dropped == 0


def test_closing_ends_a_thread_that_waits_for_its_viewer(tmp_path):
    frames = EveryFrame(open_video(write_video(tmp_path / "a.avi")))
    assert frames.next(20).number == 0
    frames.close()
    assert not frames._thread.is_alive()


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_that_loops(tmp_path, suffix):
    capture = open_video(write_video(tmp_path / f"a{suffix}", frames=5, fps=10))
    capture.loop = True
    frames = EveryFrame(capture)
    shots = [frames.next(20) for _ in range(13)]
    frames.close()
    assert [(shot.number, shot.at) for shot in shots] == [(number, number / 10) for number in range(13)]
    assert [round(float(shot.image.mean()) / 10) for shot in shots] == [number % 5 for number in range(13)]


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
