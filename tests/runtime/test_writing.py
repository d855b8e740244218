"""Results appear whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

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


def test_replacing_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["a.txt"])


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


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "is a folder"), ("none/a.jsonl", "there is no folder"), ("file/a.jsonl", "there is no folder")],
)
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


def test_folders_are_numbered(tmp_path):
    claimed = [claim_folder(tmp_path / "runs" / "predict", reuse=False).name for _ in range(3)]
    assert claimed == ["predict", "predict2", "predict3"]
    assert claim_folder(tmp_path / "runs" / "predict", reuse=True).name == "predict"


@pytest.mark.parametrize("reuse", [False, True])
def test_folders_that_cannot_be_made(tmp_path, reuse):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="out="):
        claim_folder(tmp_path / "file" / "predict", reuse=reuse)


def test_reusing_what_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        claim_folder(tmp_path / "file", reuse=True)


def found(*rows):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), NAMES)


@pytest.mark.parametrize(
    ("rows", "with_confidence", "expected"),
    [
        ([], True, ""),
        ([(10, 5, 30, 25, 0.5, 2)], False, "2 0.2 0.3 0.2 0.4\n"),
        ([(10, 5, 30, 25, 0.5, 2)], True, "2 0.2 0.3 0.2 0.4 0.5\n"),
        ([(0, 0, 100, 50, 0.9, 0), (0, 0, 1, 1, 0.3, 1)], False, "0 0.5 0.5 1 1\n1 0.005 0.01 0.01 0.02\n"),
    ],
)
def test_label_text(rows, with_confidence, expected):
    assert label_text(found(*rows), (50, 100), with_confidence=with_confidence) == expected


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("old")
    lines = JsonLines(path)
    lines.write({"name": "grün"})
    lines.write({"detections": []})
    assert path.read_text() == "old"
    lines.finish()
    lines.discard()
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [{"name": "grün"}, {"detections": []}]
    assert names_in(tmp_path) == ["a.jsonl"]


KILLED = """
import os, sys
from pathlib import Path
from yolo_distill.runtime.writers import JsonLines

lines = JsonLines(Path(sys.argv[1]))
for number in range(3):
    lines.write({"frame": number})
os._exit(9)
"""


def test_json_lines_after_a_kill(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.jsonl")], timeout=120).returncode == 9
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".a.")
    assert [json.loads(line)["frame"] for line in partial.read_text().splitlines()] == [0, 1, 2]


def test_json_lines_thrown_away(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("old")
    lines = JsonLines(path)
    lines.write({"a": 1})
    lines.discard()
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["a.jsonl"])


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
        assert capture.total == 5
        assert capture.fps == pytest.approx(fps, rel=1e-3)


def test_video_thrown_away(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    video = Video(path, 10)
    video.write(FRAME)
    video.discard()
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["a.mp4"])


def test_video_without_a_frame(tmp_path):
    video = Video(tmp_path / "a.mp4", 10)
    video.finish()
    video.discard()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "a.txt", "a.jpg", "a.mp3"])
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
    code = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path)]
    run = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert run.stdout.startswith(f"{path}: "), run.stderr
    assert (path.read_text(), names_in(tmp_path)) == ("old", [name])


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([], []),
        ([0.0, 0.1, 0.2], [0, 1, 2]),
        ([0.0, 0.3], [0, 0, 0, 1]),  # what was dropped is filled, so that the video lasts as long
        ([0.0, 0.04, 0.1], [0, 2]),  # two for one place: the first stands
    ],
)
def test_recording(moments, expected):
    written = []

    class Fake:
        fps = 10.0

        @property
        def frames(self):
            return len(written)

        def write(self, image):
            written.append(image)

    recording = Recording(Fake())
    for number, at in enumerate(moments):
        recording.write(number, at)
    assert written == expected
