"""The three stages of watching: how old what is shown is, that they overlap, and that nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from host_files import export
from made_detector import dense, write_detector, write_video

from yolo_distill.errors import DistillError
from yolo_distill.runtime import webcam
from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.webcam import Live


class Camera:
    """Gives a frame every `interval` seconds; the number of a frame is written into its last pixel."""

    total, name = None, "0"

    def __init__(self, interval, frames=10_000, live=True):
        self.live, self.fps, self.interval, self.left = live, 1 / interval, interval, frames
        self.born: list[float] = []

    def read(self):
        if not self.left:
            return None
        self.left -= 1
        time.sleep(self.interval)
        image = np.zeros((48, 64, 3), np.uint8)
        image[-1, -1] = len(self.born) % 256, len(self.born) // 256, 0
        self.born.append(time.monotonic())
        return image

    def close(self):
        pass


class SlowDetector(Detector):
    """Takes `seconds` longer than it needs and notes how long that was, frame by frame."""

    def __init__(self, path, seconds):
        super().__init__(path)
        self.seconds, self.took, self.fail_at = seconds, {}, None

    def __call__(self, image, **settings):
        started = time.monotonic()
        time.sleep(self.seconds)
        found = super().__call__(image, **settings)
        self.took[number_of(image)] = time.monotonic() - started
        if self.fail_at is not None and len(self.took) > self.fail_at:
            raise DistillError("the network failed")
        return found


class Window:
    """Notes when it showed which frame; its user presses q after `patience` frames."""

    def __init__(self, seconds=0.0, patience=10_000):
        self.seconds, self.patience, self.shown, self.waits = seconds, patience, [], 0

    def __call__(self, title, instead):
        return self

    def show(self, image):
        time.sleep(self.seconds)
        self.shown.append((number_of(image), time.monotonic()))
        return len(self.shown) < self.patience

    def wait(self, wait_ms):
        self.waits += 1
        return True

    def close(self):
        pass


def number_of(image):
    return int(image[-1, -1, 0]) + 256 * int(image[-1, -1, 1])


@pytest.fixture
def made(tmp_path):
    return write_detector(tmp_path / "best.onnx", dense((32, 32, 16, 16, 0.9, 0, 0)))


def watch(detector, source, monkeypatch=None, window=None, **settings):
    if window:
        monkeypatch.setattr(webcam, "Screen", window)
    options = {"save": None, "record": None, "max_frames": None, "realtime": True, "overlay": False, **settings}
    run = Live(detector, lambda: source, find={}, show=window is not None, progress=Progress(), **options)
    return run.run()


def test_what_is_shown_is_as_old_as_its_inference(made, monkeypatch):
    detector, camera, window = SlowDetector(made, 0.3), Camera(0.02), Window()
    outcome = watch(detector, camera, monkeypatch, window, max_frames=8)
    numbers = [number for number, _ in window.shown]
    assert len(numbers) == outcome.shown == 8
    assert numbers == sorted(set(numbers))
    for number, shown in window.shown:
        # A frame that had been queued would be a whole inference older.
        assert shown - camera.born[number] < 1.5 * detector.took[number]
    # All that passed by meanwhile was dropped; the detector was hardly ever idle.
    assert outcome.dropped >= numbers[-1] - 8
    assert numbers[-1] >= 7 * 0.3 / 0.02 / 3
    assert outcome.beside.longest < 0.15
    assert outcome.inference.percentile(50) == pytest.approx(np.median(list(detector.took.values())), rel=0.2)


def test_a_slow_window_sees_the_newest_as_well(made, monkeypatch):
    detector, camera, window = SlowDetector(made, 0.01), Camera(0.02), Window(seconds=0.3)
    watch(detector, camera, monkeypatch, window, max_frames=8)
    for number, shown in window.shown:
        # It waited for the frame before to be drawn, and was drawn.
        assert shown - camera.born[number] < 2.5 * 0.3


def test_the_stages_overlap(made, monkeypatch):
    detector, source, window = SlowDetector(made, 0.1), Camera(0.1, frames=15, live=False), Window(seconds=0.1)
    outcome = watch(detector, source, monkeypatch, window, realtime=False)
    assert [number for number, _ in window.shown] == list(range(15))
    assert outcome.dropped == 0
    assert outcome.seconds < 0.7 * 14 * 3 * 0.1


def test_a_window_lives_while_nothing_comes(made, monkeypatch):
    window = Window()
    watch(SlowDetector(made, 0.4), Camera(0.05, frames=2, live=False), monkeypatch, window, realtime=False)
    assert window.waits >= 3


@pytest.mark.parametrize("end", ["source", "q", "max_frames", "network", "camera", "disk"])
@pytest.mark.parametrize("realtime", [True, False])
def test_no_thread_stays(made, monkeypatch, tmp_path, end, realtime):
    before = set(threading.enumerate())
    detector = SlowDetector(made, 0.02)
    window = Window(patience=4 if end == "q" else 1000)
    source = Camera(0.01, frames=8 if end in {"source", "camera"} else 10_000, live=end == "camera")
    source.skip = lambda count: 0
    detector.fail_at = 4 if end == "network" else None
    settings = {"max_frames": 4 if end == "max_frames" else None, "realtime": realtime}
    if end == "disk":
        monkeypatch.setattr(webcam.JsonLines, "write", lambda self, record: 1 / 0)
        settings["record"] = tmp_path / "labels.jsonl"
    try:
        watch(detector, source, monkeypatch, window, **settings)
        assert end in {"source", "q", "max_frames"}
    except (DistillError, ZeroDivisionError):
        assert end in {"network", "camera", "disk"}
    assert set(threading.enumerate()) <= before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.onnx"]


@pytest.mark.slow
def test_a_real_detector_keeps_up_with_a_real_video(tmp_path, shared_data, monkeypatch):
    """The video's own clock runs beside ours: what is shown stays one inference behind, and falls no further back."""
    pytest.importorskip("ultralytics", reason="the host is not installed")
    nano = export("yolo26n.yaml", tmp_path, alive=False, imgsz=640)
    film = open_video(shared_data / "video" / "bottle-detection.mp4")
    interval, window = 1 / film.fps, Window()
    outcome = watch(Detector(nano, threads=1), film, monkeypatch, window, max_frames=20)
    inference = outcome.inference.percentile(50)
    assert outcome.shown == 20
    assert outcome.latency.percentile(50) < 1.5 * inference + 2 * interval
    assert outcome.beside.percentile(95) < 0.5 * inference + 2 * interval
    if inference > interval:
        # Whole frames: one that is hardly slower than the video falls back by less than a frame in so short a time.
        assert outcome.dropped >= int(10 * (inference / interval - 1))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_stays_flat(made, tmp_path):
    """Thousands of frames through all files, the video begun again hundreds of times; see the benchmark for hours."""
    film = write_video(tmp_path / "film.avi", size=(320, 240))
    script = Path(__file__).parents[1] / "benchmarks" / "webcam_soak.py"
    words = [f"model={made}", f"source={film}", "realtime=false", "minutes=0.2", "every=0.2", "limit=4"]
    run = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    assert report["flat"]
    assert int(report["said"][0].split()[0]) > 200  # so that a frame kept would be seen: 230 kB each
