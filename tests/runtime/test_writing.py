"""Results appear whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from made_detector import NAMES

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import check_writable, claim_folder, replacing, write_bytes
from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.webcam import Recording
from yolo_distill.runtime.writers import JsonLines, Video, check_video_name, label_text, write_picture

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


@pytest.mark.parametrize("write", [lambda path: write_bytes(path, b"x"), lambda path: write_picture(path, FRAME)])
def test_a_folder_that_is_gone(tmp_path, write):
    with pytest.raises(DistillError, match=r"a\.png: cannot be written \(No such file or directory\)"):
        write(tmp_path / "gone" / "a.png")


def test_picture(tmp_path):
    write_picture(tmp_path / "a.png", FRAME + 5)
    assert (cv2.imread(str(tmp_path / "a.png")) == 5).all()
    with pytest.raises(DistillError, match=r"cannot be encoded as \.xyz"):
        write_picture(tmp_path / "a.xyz", FRAME)
    assert names_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize(("name", "said"), [("", "is a folder"), ("file/a.jsonl", "there is no folder")])
def test_check_writable(tmp_path, name, said):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=f"jsonl=x: {said}"):
        check_writable(tmp_path / name, "jsonl=x")
    check_writable(tmp_path / "fine", "jsonl=x")
    assert names_in(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RequestError, match="cannot be written"):
            check_writable(tmp_path / "a", "jsonl=a")
    finally:
        tmp_path.chmod(0o700)


def test_folders_of_runs(tmp_path):
    claimed = [claim_folder(tmp_path / "runs" / "predict", reuse=False).name for _ in range(3)]
    assert claimed == ["predict", "predict2", "predict3"]
    assert claim_folder(tmp_path / "runs" / "predict", reuse=True).name == "predict"
    (tmp_path / "file").touch()
    for path, reuse, said in [("file/predict", False, "out="), ("file/predict", True, "out="), ("file", True, "file")]:
        with pytest.raises(RequestError, match=said):
            claim_folder(tmp_path / path, reuse=reuse)


@pytest.mark.parametrize(
    ("rows", "with_confidence", "expected"),
    [
        ([], True, ""),
        ([(10, 5, 30, 25, 0.5, 2)], True, "2 0.2 0.3 0.2 0.4 0.5\n"),
        ([(0, 0, 100, 50, 0.9, 0), (0, 0, 1, 1, 0.3, 1)], False, "0 0.5 0.5 1 1\n1 0.005 0.01 0.01 0.02\n"),
    ],
)
def test_label_text(rows, with_confidence, expected):
    table = np.array(rows, np.float32).reshape(-1, 6)
    found = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), NAMES)
    assert label_text(found, (50, 100), with_confidence=with_confidence) == expected


def test_json_lines(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.write({"name": "grün"})
    lines.write({"detections": []})
    lines.finish()
    written = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in written] == [{"name": "grün"}, {"detections": []}]


@pytest.mark.parametrize(
    ("make", "record"),
    [(JsonLines, {"a": 1}), (lambda path: Video(path, 10), FRAME)],
    ids=["lines", "video"],
)
def test_what_is_thrown_away_leaves_the_old_file(tmp_path, make, record):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    out = make(path)
    out.write(record)
    assert path.read_text() == "old"
    assert len(names_in(tmp_path)) == 2
    out.discard()
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["a.mp4"])


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


@pytest.mark.parametrize("fps", [59.94, 71.4286, 119.7034, 777.7777])
def test_video_of_an_odd_rate(tmp_path, fps):
    video = Video(tmp_path / "film.mp4", fps)
    for shade in range(5):
        video.write(np.full((48, 64, 3), 50 * shade, np.uint8))
    video.finish()
    with open_video(tmp_path / "film.mp4") as capture:
        assert (capture.total, capture.fps) == (5, pytest.approx(fps, rel=1e-3))


def test_video_without_a_frame(tmp_path):
    video = Video(tmp_path / "a.mp4", 10)
    video.finish()
    video.discard()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "a.jpg"])
def test_video_names(tmp_path, name):
    with pytest.raises(RequestError, match=r"save=x: videos can be written as \.mp4"):
        check_video_name(tmp_path / name, "save=x")


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from yolo_distill.errors import DistillError
from yolo_distill.runtime.writers import JsonLines, Video

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond this
path, noise = Path(sys.argv[1]), np.random.default_rng(0)
out = Video(path, 10) if path.suffix == ".mp4" else JsonLines(path)
try:
    for _ in range(30):
        out.write(noise.integers(0, 256, (96, 128, 3), dtype=np.uint8) if path.suffix == ".mp4" else {"a": "x" * 5000})
    out.finish()
except DistillError as error:
    print(error)
finally:
    out.discard()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for a file's size")
@pytest.mark.parametrize("name", ["a.mp4", "a.jsonl"])
def test_a_disk_that_is_full(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    code = [sys.executable, "-c", FULL_DISK, str(path)]
    run = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert run.stdout.startswith(f"{path}: "), run.stderr
    assert (path.read_text(), names_in(tmp_path)) == ("old", [name])


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
