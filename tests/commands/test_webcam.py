"""`yolo-distill webcam` as a person types it, on machines without a camera."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made_detector import dense, write_detector, write_video

from yolo_distill.cli import main
from yolo_distill.runtime import live
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


def test_every_frame(capsys):
    assert webcam("source=film.avi", "realtime=false", "save=out.mp4") == 0
    shown, dropped, out = summary(capsys)
    assert (shown, dropped) == (12, 0)
    assert re.search(r"[\d.]+ frames a second, latency \d+ ms \(p50\), \d+ ms \(p95\)", out)
    assert "video: out.mp4" in out
    with open_video(Path("out.mp4")) as capture:
        assert (capture.total, capture.fps) == (12, 10)
        assert capture.read().any()
    assert names() == ["best.onnx", "film.avi", "out.mp4"]


def test_in_real_time(capsys):
    started = time.monotonic()
    assert webcam("source=film.avi", "save=out.mp4") == 0
    shown, dropped, _ = summary(capsys)
    assert time.monotonic() - started >= 1.1  # 12 frames, 10 a second
    assert shown + dropped == 12
    with open_video(Path("out.mp4")) as capture:
        assert 10 <= capture.total <= 12  # lasts as long as the original, whatever was dropped


def test_a_slow_model_drops_frames(monkeypatch, capsys):
    draw = live.draw

    def slow(image, found):
        time.sleep(0.35)
        return draw(image, found)

    monkeypatch.setattr(live, "draw", slow)
    assert webcam("source=film.avi", "save=out.mp4") == 0
    shown, dropped, _ = summary(capsys)
    assert shown + dropped == 12
    assert dropped >= 5


def test_max_frames(capsys):
    assert webcam("source=film.avi", "realtime=false", "max_frames=5", "save=out.mp4") == 0
    assert summary(capsys)[0] == 5


@pytest.mark.parametrize(("overlay", "dark"), [("true", False), ("false", True)])
def test_overlay(overlay, dark):
    assert webcam("source=film.avi", "conf=0.95", "realtime=false", f"overlay={overlay}", "save=out.avi") == 0
    with open_video(Path("out.avi")) as capture:
        assert (int(capture.read().max()) < 60) is dark  # the first frame is black


class Window:
    """A window whose user presses q at the third picture."""

    pictures = 0
    closed = False

    def __init__(self, title, instead):
        pass

    def show(self, image):
        Window.pictures += 1
        return Window.pictures < 3

    def close(self):
        Window.closed = True


def test_q_ends_it(monkeypatch, capsys):
    Window.pictures, Window.closed = 0, False
    monkeypatch.setattr(live, "Screen", Window)
    monkeypatch.setattr("yolo_distill.runtime.screen.why_no_screen", lambda: "")
    assert webcam("source=film.avi", "show=true", "realtime=false") == 0
    assert summary(capsys)[0] == Window.pictures == 3
    assert Window.closed


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


@pytest.mark.parametrize("words", [["save=out.mp4"], []])
def test_a_camera_that_breaks_off(monkeypatch, capsys, words):
    camera = Camera(6)
    monkeypatch.setattr("yolo_distill.runtime.sources.open_camera", lambda index: camera)
    assert webcam("source=0", *words) == 1
    err = capsys.readouterr().err
    assert "source=0: it gave no more frames after" in err
    assert camera.closed
    if words:
        assert "what was recorded is in out.mp4" in err
        with open_video(Path("out.mp4")) as capture:
            assert capture.total >= 1


def test_a_camera_that_goes_silent(monkeypatch, capsys):
    hang = threading.Event()

    class Silent(Camera):
        def read(self):
            return super().read() if self.left else hang.wait(20) and None

    monkeypatch.setattr("yolo_distill.runtime.sources.open_camera", lambda index: Silent(2))
    monkeypatch.setattr(live, "_SILENCE_SECONDS", 0.5)
    threading.Timer(3, hang.set).start()
    assert webcam("source=0") == 1
    assert "it gave nothing for 0 s after" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=none.onnx"], "none.onnx: no such file"),
        (["source=77"], "source=77: camera 77 is not there or is in use"),
        (["source=none.mp4"], "source=none.mp4: no such file"),
        (["source=bad.mp4"], "bad.mp4: cannot be opened as a video"),
        (["source=."], "source=.: webcam watches one camera, stream or video"),
        (["source=best.onnx"], "for pictures: yolo-distill predict"),
        (["save=out.txt"], "save=out.txt: videos can be written as .mp4"),
        (["save=none/out.mp4"], "save=none/out.mp4: there is no folder none"),
        (["imgsz=128"], "imgsz=128,128: best.onnx takes 64,64"),
        (["classes=cat"], "classes=cat: the model knows no such class"),
        (["max_frames=0"], "max_frames=0: must be at least 1"),
        (["show=true"], "show=true: there is no screen (DISPLAY is not set); use show=false save=out.mp4"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_requests(monkeypatch, capsys, words, said):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if words == ["show=true"] and not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a screen")
    Path("bad.mp4").write_bytes(b"no video")
    write_video(Path("film2.avi"), frames=2)
    before = names()
    assert webcam("source=film.avi", "save=out.mp4", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("yolo-distill: ")
    assert err.count("\n") == 1
    assert names() == before


def test_a_disk_that_refuses_keeps_the_old_video(monkeypatch, capsys):
    from yolo_distill.errors import DistillError
    from yolo_distill.runtime.writers import Video

    def refuse(self):
        raise DistillError("the disk is full")

    monkeypatch.setattr(Video, "finish", refuse)
    Path("out.mp4").write_text("old")
    assert webcam("source=film.avi", "realtime=false", "save=out.mp4") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert Path("out.mp4").read_text() == "old"
    assert names() == ["best.onnx", "film.avi", "out.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C in another way")
def test_ctrl_c_finishes_the_video(tmp_path):
    write_video(tmp_path / "long.avi", frames=600)
    command = [sys.executable, "-m", "yolo_distill.cli", "webcam", "model=best.onnx", "source=long.avi"]
    run = subprocess.Popen(
        [*command, "show=false", "save=out.mp4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not any(name.startswith(".out.") for name in names()) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert err.endswith("yolo-distill: interrupted\n")
    assert "frames shown" in out
    with open_video(Path("out.mp4")) as capture:
        assert 1 <= capture.total < 600
    assert not [name for name in names() if ".part" in name]


def test_real_video(shared_data, capsys):
    film = shared_data / "video" / "person-bicycle-car-preview.mp4"
    assert webcam(f"source={film}", "realtime=false", "save=out.mp4") == 0
    assert summary(capsys)[0] >= 40
    with open_video(Path("out.mp4")) as capture, open_video(film) as original:
        assert capture.read().shape == original.read().shape
