"""Results appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from made_detector import NAMES

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import check_writable, claim_folder, partial_name, replacing
from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.webcam import Recording
from yolo_distill.runtime.writers import Video, write_picture

FRAME = np.zeros((48, 64, 3), np.uint8)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replacing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert (path.read_text(), partial.parent, partial.suffix) == ("old", tmp_path, ".txt")
    assert (path.read_text(), names_in(tmp_path)) == ("new", ["a.txt"])

    def fail():
        with replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (path.read_text(), names_in(tmp_path)) == ("new", ["a.txt"])


def test_picture(tmp_path):
    write_picture(tmp_path / "a.png", FRAME + 5)
    assert (cv2.imread(str(tmp_path / "a.png")) == 5).all()
    for name, image in (("a.xyz", FRAME), ("a.webp", np.zeros((1, 20_000, 3), np.uint8))):
        with pytest.raises(DistillError) as caught:
            write_picture(tmp_path / name, image)
        said = f"{tmp_path / name}: a picture of {image.shape[1]}x{len(image)} pixels cannot be encoded as .{name[2:]}"
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)
    assert names_in(tmp_path) == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RequestError, match="cannot be written"):
            check_writable(tmp_path / "a", "jsonl=a")
    finally:
        tmp_path.chmod(0o700)


def test_labels_without_confidence():
    table = np.array([(0, 0, 100, 50), (0, 0, 1, 1)], np.float32)
    found = Detections(table, np.array([0.9, 0.3], np.float32), np.array([0, 1]), NAMES, (50, 100))
    assert found.to_yolo() == "0 0.5 0.5 1 1\n1 0.005 0.01 0.01 0.02\n"


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".avi", ".MP4"])
@pytest.mark.parametrize("shape", [(48, 64), (47, 63)])
def test_video(tmp_path, suffix, shape):
    path = tmp_path / f"a{suffix}"
    video = Video(path, 12.5)
    for _ in range(5):
        video.write(np.zeros((*shape, 3), np.uint8))
    video.write(np.zeros((20, 20, 3), np.uint8))  # a stream that changes its size
    assert names_in(tmp_path) != [path.name]
    video.finish()
    video.discard()
    assert names_in(tmp_path) == [path.name]
    with open_video(path) as capture:
        assert (capture.total, capture.fps) == (6, 12.5)


@pytest.mark.parametrize("fps", [10 / 100_000, 59.94, 71.4286, 119.7034, 777.7777])
def test_video_of_an_odd_rate(tmp_path, fps):
    video = Video(tmp_path / "film.mp4", fps)
    for shade in range(5):
        video.write(np.full((48, 64, 3), 50 * shade, np.uint8))
    video.finish()
    with open_video(tmp_path / "film.mp4") as capture:
        assert capture.total == 5
        # A rate as low as that is no longer read back.
        assert fps < 0.1 or capture.fps == pytest.approx(fps, rel=1e-3)


def test_video_without_a_frame(tmp_path):
    video = Video(tmp_path / "a.mp4", 10)
    video.finish()
    video.discard()
    assert names_in(tmp_path) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from yolo_distill.errors import DistillError
from yolo_distill.runtime.writers import Video

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond this
noise, video = np.random.default_rng(0), Video(Path(sys.argv[1]), 10)
try:
    for _ in range(30):
        video.write(noise.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    video.finish()
except DistillError as error:
    print(error)
finally:
    video.discard()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for a file's size")
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_video_on_a_disk_that_is_full(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=120)
    said = f"{path}: the video could not be written to its end; is there no space ("
    assert run.stdout.startswith(said), run.stderr
    assert (path.read_text(), names_in(tmp_path)) == ("old", [name])


def test_a_full_disk_is_said_while_the_video_is_written(tmp_path, monkeypatch):
    def full(**settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5000))
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    video = Video(tmp_path / "a.mp4", 10)
    with pytest.raises(DistillError, match=r"a\.mp4: cannot be written \(No space left on device; 5 kB are free\)"):
        video.write(np.zeros((48, 64, 3), np.uint8))
    video.discard()


def test_what_killed_processes_left_goes_with_the_next_start(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = partial_name(tmp_path / "a.mp4").name
    a = [own.replace(str(os.getpid()), str(number)) for number in (ended.pid, os.getppid())]
    a += [".a.elsewhere.7.part.mp4", ".a.elsewhere.8.part.mp4"]
    b = [name.replace("a", "b", 1) for name in a]
    for name in (*a, *b):
        (tmp_path / name).touch()
        if ".8." in name:  # nothing was written there for long
            os.utime(tmp_path / name, (0, 0))
    check_writable(tmp_path / "a.mp4", "save=a.mp4")
    assert sorted(names_in(tmp_path)) == sorted([*a[1:3], *b])
    claim_folder(tmp_path, reuse=True)
    assert sorted(names_in(tmp_path)) == sorted([*a[1:3], *b[1:3]])


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([], []),
        ([0.0, 0.1, 0.2], [0, 1, 2]),
        ([0.0, 0.3], [0, 0, 0, 1]),  # what was dropped is filled, so that the video lasts as long
        ([0.0, 0.04, 0.1], [0, 2]),  # two for one moment: the first stands
    ],
)
def test_recording(moments, expected):
    written = []

    def write(image):
        written.append(image)
        video.frames += 1

    video = SimpleNamespace(fps=10.0, frames=0, write=write)
    recording = Recording(video)
    for number, at in enumerate(moments):
        recording.write(number, at)
    assert written == expected
