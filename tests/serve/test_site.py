"""The model's file, watched while it is served."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_detector import dense, write_detector
from made_site import APP, ORT

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve import model as module
from yolo_distill.serve.model import read_model, signature
from yolo_distill.serve.site import Site, Watch

MODEL = Path("best.onnx")


def detector(score: float = 0.9, path: Path = MODEL) -> Path:
    return write_detector(path, dense((32, 32, 16, 16, score, 0, 0)))


class Watched:
    """A site over `best.onnx`, its watch, and what that says."""

    def __init__(self) -> None:
        detector()
        self.said: list[str] = []
        self.read = signature(MODEL)
        self.site = Site(APP, ORT, read_model(MODEL))
        self.watch = Watch(MODEL, self.read, self.site, self.said.append)
        self.version = self.site.table().version

    def check(self, times: int = 4) -> bool:
        """Let the watch check; return whether another model is served."""
        for _ in range(times):
            self.watch.check()
        return self.site.table().version != self.version


@pytest.fixture
def watched(tmp_path):
    return Watched()


def test_a_model_that_is_replaced(watched):
    assert not watched.check()
    detector(0.5, Path("new.onnx")).replace(MODEL)
    assert not watched.check(1)  # perhaps still being written
    assert watched.check(3)
    assert watched.said == ["best.onnx: was replaced; new visits get the new one (0.0 MB)"]


def test_a_model_that_is_replaced_before_the_watch_begins(watched):
    detector(0.5, Path("new.onnx")).replace(MODEL)
    watched.watch = Watch(MODEL, watched.read, watched.site, watched.said.append)
    assert watched.check()
    assert len(watched.said) == 1


def test_the_same_model_again_is_no_news(watched):
    os.utime(MODEL, (1, 1))
    assert not watched.check()
    assert watched.said == []


@pytest.mark.parametrize("cut", [0, 100])
def test_a_model_that_breaks_and_comes_back(watched, cut):
    MODEL.write_bytes(MODEL.read_bytes()[:cut])
    assert not watched.check()
    (said,) = watched.said
    assert said.startswith("best.onnx: is ")
    assert said.endswith("; the last good one goes on")
    detector(0.5)
    assert watched.check()
    assert len(watched.said) == 2


def test_the_watch_survives_whatever_happens(watched, monkeypatch):
    monkeypatch.setattr("yolo_distill.serve.site.read_model", lambda path: 1 / 0)
    detector(0.5)
    assert not watched.check()
    assert watched.said == ["best.onnx: ZeroDivisionError: division by zero; the last good one goes on"]


def test_models_that_a_browser_cannot_run(monkeypatch):
    onnx = pytest.importorskip("onnx")
    with pytest.raises(RequestError, match=r"give the \.onnx file beside it"):
        read_model(Path("best.ort"))
    write_detector(MODEL, dense(), gain=np.ones((7, 40), np.float32))
    model = onnx.load(str(MODEL))
    onnx.save(model, "split.onnx", save_as_external_data=True, location="split.data", size_threshold=512)
    with pytest.raises(RequestError, match="keeps its weights in a second file, which a browser does not get"):
        read_model(Path("split.onnx"))
    times = iter(range(100))
    monkeypatch.setattr(module, "signature", lambda path: (next(times), 0, 0))
    with pytest.raises(DistillError, match="is being written; wait until it is finished"):
        read_model(MODEL)
