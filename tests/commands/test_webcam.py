"""`yolo-distill webcam` as a person types it, on machines without a camera."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made_detector import dense, write_detector, write_video

from yolo_distill.cli import main
from yolo_distill.errors import DistillError
from yolo_distill.runtime import webcam as loop
from yolo_distill.runtime import writers
from yolo_distill.runtime.capture import open_video


@pytest.fixture(autouse=True)
def _files(tmp_path):
    """Put a model and a video of 12 frames, 10 a second, into the working folder."""
    write_detector(tmp_path / "best.onnx", dense((32, 32, 16, 16, 0.9, 0, 0)))
    write_video(tmp_path / "film.avi")


def webcam(*words):
    return main(["webcam", "model=best.onnx", "show=false", *words])


def names():
    return sorted(path.name for path in Path().iterdir())


def summary(capsys):
    """Return shown, dropped, and the whole text."""
    out = capsys.readouterr().out
    shown, dropped = map(int, re.match(r"(\d+) frames shown, (\d+) dropped", out).groups())
    return shown, dropped, out


def recorded(name="labels.jsonl"):
    return [json.loads(line) for line in Path(name).read_text("utf-8").splitlines()]


def test_each_frame_is_shown_saved_and_recorded(capsys):
    assert webcam("source=film.avi", "realtime=false", "save=out.mp4", "record=labels.jsonl") == 0
    shown, dropped, out = summary(capsys)
    assert (shown, dropped) == (12, 0)
    assert re.search(r"[\d.]+ frames a second, latency \d+ ms \(p50\), \d+ ms \(p95\)", out)
    assert "video: out.mp4" in out
    assert "JSON lines: labels.jsonl" in out
    with open_video(Path("out.mp4")) as capture:
        assert (capture.total, capture.fps) == (12, 10)
        assert capture.read().any()
    assert names() == ["best.onnx", "film.avi", "labels.jsonl", "out.mp4"]
    assert [(line["frame"], line["time"]) for line in recorded()] == [(n + 1, n / 10) for n in range(12)]
    assert list(recorded()[0]) == ["source", "frame", "time", "width", "height", "detections"]
    assert main(["predict", "model=best.onnx", "source=film.avi", "save=false", "jsonl=predict.jsonl"]) == 0
    assert [{key: line[key] for key in line if key != "time"} for line in recorded()] == recorded("predict.jsonl")


def test_in_real_time_a_slow_model_drops_frames_and_the_video_lasts_as_long(monkeypatch, capsys):
    draw = loop.draw

    def slow(image, found):
        time.sleep(0.35)
        return draw(image, found)

    monkeypatch.setattr(loop, "draw", slow)
    started = time.monotonic()
    assert webcam("source=film.avi", "save=out.mp4", "record=labels.jsonl") == 0
    assert time.monotonic() - started >= 1.1  # 12 frames, 10 a second
    shown, dropped, _ = summary(capsys)
    assert dropped >= 5
    assert (shown + dropped, len(recorded())) == (12, shown)
    for line in recorded():
        assert line["time"] == pytest.approx((line["frame"] - 1) / 10, abs=1e-4)
    with open_video(Path("out.mp4")) as capture:
        assert 10 <= capture.total <= 12


def test_a_video_that_loops_until_max_frames(capsys):
    words = ["source=film.avi", "loop=true", "realtime=false", "max_frames=30", "record=labels.jsonl"]
    assert webcam(*words) == 0
    assert summary(capsys)[:2] == (30, 0)
    assert recorded()[-1]["frame"] == 30


def test_overlay(monkeypatch):
    write_detector(Path("half.onnx"), dense((32, 32, 16, 16, 0.9, 0, 0)), half=True)
    said = []
    monkeypatch.setattr(loop, "draw_note", lambda image, *lines: said.append(lines))
    words = ["model=half.onnx", "source=film.avi", "realtime=false", "save=out.avi"]
    assert webcam(*words, "overlay=false") == 0
    assert len(said) == 1  # before the first frame, on none of the video
    assert webcam(*words) == 0
    speed, model = said[-1]
    assert re.fullmatch(r"\d+\.\d FPS  \d+ ms  1 found", speed)
    assert model == "fp16  half.onnx"


class Camera:
    """A camera that breaks off after some frames."""

    live, fps, total, name = True, 10.0, None, "0"

    def __init__(self, frames):
        self.left, self.closed = frames, False

    def read(self):
        if not self.left:
            return None
        self.left -= 1
        time.sleep(0.05)
        return np.zeros((48, 64, 3), np.uint8)

    def close(self):
        self.closed = True


def test_a_camera_that_breaks_off(monkeypatch, capsys):
    """It is not opened again: the run ends with an error, and what was written is kept."""
    camera = Camera(6)
    monkeypatch.setattr("yolo_distill.runtime.sources.open_camera", lambda index: camera)
    assert webcam("source=0", "save=out.mp4", "record=labels.jsonl") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "source=0: it gave no more frames after" in line
    assert "what was recorded is in labels.jsonl and out.mp4;" in line
    assert camera.closed
    assert names() == ["best.onnx", "film.avi", "labels.jsonl", "out.mp4"]
    assert all("detections" in line for line in recorded())
    with open_video(Path("out.mp4")) as capture:
        assert capture.total >= 1


def test_a_camera_that_goes_silent(monkeypatch, capsys):
    hang = threading.Event()

    class Silent(Camera):
        def read(self):
            return super().read() if self.left else hang.wait(20) and None

    monkeypatch.setattr("yolo_distill.runtime.sources.open_camera", lambda index: Silent(2))
    monkeypatch.setattr(loop, "_SILENCE_SECONDS", 0.5)
    threading.Timer(3, hang.set).start()
    assert webcam("source=0") == 1
    assert "it gave nothing for 0 s after" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=none.onnx"], "none.onnx: no such file"),
        (["source=."], "source=.: webcam watches one camera, stream or video"),
        (["source=best.onnx"], "for pictures: yolo-distill predict"),
        (["save=out.txt"], "save=out.txt: videos can be written as .mp4"),
        (["save=film.avi"], "save=film.avi: is source= itself"),
        (["record=none/a.jsonl"], "record=none/a.jsonl: there is no folder none"),
        (["record=out.mp4"], "record=out.mp4: is save= as well"),
        (["loop=true", "source=0"], "loop=true: source=0 goes on by itself"),
        (["classes=cat"], "classes=cat: the model knows no such class"),
        (["show=true"], "show=true: there is no screen (DISPLAY is not set); use show=false save=out.mp4"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_requests(monkeypatch, refused, words, said):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if words == ["show=true"] and not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a screen")
    write_video(Path("film2.avi"), frames=2)
    assert said in refused("webcam", "model=best.onnx", "show=false", "source=film.avi", "save=out.mp4", *words)


@pytest.mark.parametrize(
    ("setting", "kind", "step", "more"),
    [("save=out.mp4", "Video", "finish", []), ("record=out.jsonl", "JsonLines", "write", ["loop=true"])],
)
def test_a_disk_that_refuses_ends_it_and_keeps_the_old_file(monkeypatch, refused, setting, kind, step, more):
    def refuse(*_):
        raise DistillError("the disk is full")

    monkeypatch.setattr(getattr(writers, kind), step, refuse)
    old = Path(setting.split("=")[1])
    old.write_text("old")
    words = ["webcam", "model=best.onnx", "show=false", "source=film.avi", "realtime=false", setting, *more]
    assert (refused(*words, code=1), old.read_text()) == ("the disk is full", "old")


def test_a_video_that_failed_leaves_the_recorded_lines(monkeypatch, capsys):
    def refuse(self):
        raise DistillError("the disk is full")

    monkeypatch.setattr(writers.Video, "finish", refuse)
    assert webcam("source=film.avi", "realtime=false", "save=out.mp4", "record=labels.jsonl") == 1
    assert names() == ["best.onnx", "film.avi", "labels.jsonl"]
    assert len(Path("labels.jsonl").read_text("utf-8").splitlines()) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C in another way")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])  # a person, a service manager
def test_a_signal_finishes_the_files(interrupted, sent):
    write_video(Path("long.avi"), frames=600)  # a minute
    words = ["model=best.onnx", "source=long.avi", "show=false", "save=out.mp4", "record=labels.jsonl"]
    # The video begins with the first frame; of files that are tried before, one is there at a time.
    begun = lambda: list(Path().glob(".out.*")) and list(Path().glob(".labels.*"))  # noqa: E731
    out = interrupted("webcam", *words, once=begun, sent=sent)
    with open_video(Path("out.mp4")) as capture:
        assert 1 <= capture.total < 600
    assert 1 <= len(recorded()) == int(re.match(r"(\d+) frames shown", out).group(1))
