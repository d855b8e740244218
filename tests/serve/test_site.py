"""The model's file, watched while it is served."""

from __future__ import annotations

import os
import time
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


@pytest.fixture
def watched(tmp_path):
    """Return a site over `best.onnx`, its watch, and what that says."""
    detector()
    said: list[str] = []
    read = signature(MODEL)
    site = Site(APP, ORT, read_model(MODEL))
    return site, Watch(MODEL, read, site, said.append), said


def test_a_model_that_is_replaced(watched):
    site, watch, said = watched
    version = site.table().version
    watch.look()
    detector(0.5, Path("new.onnx")).replace(MODEL)
    watch.look()
    assert (site.table().version, said) == (version, [])  # perhaps still being written
    watch.look()
    assert site.table().version != version
    assert said == ["best.onnx: was replaced; new visits get the new one (0.0 MB)"]
    watch.look()
    watch.look()
    assert len(said) == 1


def test_a_model_that_is_replaced_before_the_watch_begins(watched):
    site, _, said = watched
    read, version = signature(MODEL), site.table().version
    detector(0.5, Path("new.onnx")).replace(MODEL)
    watch = Watch(MODEL, read, site, said.append)
    watch.look()
    watch.look()
    assert site.table().version != version
    assert len(said) == 1


def test_the_same_model_again_is_no_news(watched):
    site, watch, said = watched
    version = site.table().version
    os.utime(MODEL, (1, 1))
    watch.look()
    watch.look()
    assert (site.table().version, said) == (version, [])


@pytest.mark.parametrize("cut", [0, 100])
def test_a_model_that_breaks_and_comes_back(watched, cut):
    site, watch, said = watched
    version = site.table().version
    MODEL.write_bytes(MODEL.read_bytes()[:cut])
    for _ in range(4):
        watch.look()
    assert site.table().version == version
    assert len(said) == 1
    assert said[0].startswith("best.onnx: is ")
    assert said[0].endswith("; the last good one goes on")
    detector(0.5)
    for _ in range(4):
        watch.look()
    assert site.table().version != version
    assert len(said) == 2


def test_a_model_that_is_deleted(watched):
    site, watch, said = watched
    version = site.table().version
    MODEL.unlink()
    for _ in range(4):
        watch.look()
    assert (site.table().version, said) == (version, ["best.onnx: is gone; the last good one goes on"])


def test_the_watch_survives_whatever_happens(watched, monkeypatch):
    site, watch, said = watched
    monkeypatch.setattr("yolo_distill.serve.site.read_model", lambda path: 1 / 0)
    detector(0.5)
    for _ in range(4):
        watch.look()
    assert said == ["best.onnx: ZeroDivisionError: division by zero; the last good one goes on"]
    assert site.table() is not None


def test_it_looks_by_itself(tmp_path):
    detector()
    said: list[str] = []
    read = signature(MODEL)
    site = Site(APP, ORT, read_model(MODEL))
    watch = Watch(MODEL, read, site, said.append, seconds=0.02)
    watch.start()
    try:
        detector(0.5, Path("new.onnx")).replace(MODEL)
        deadline = time.monotonic() + 20
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(said) == 1
    finally:
        watch.stop()


def test_models_that_are_none(tmp_path):
    Path("best.pt").touch()
    with pytest.raises(RequestError, match=r"best\.pt: is a checkpoint; export it first: yolo-distill export model="):
        read_model(Path("best.pt"))
    with pytest.raises(RequestError, match="no such file"):
        read_model(Path("none.onnx"))
    with pytest.raises(RequestError, match=r"give the \.onnx file beside it"):
        read_model(Path("best.ort"))
    Path("text.onnx").write_text("no model")
    with pytest.raises(RequestError, match="is not an ONNX model"):
        read_model(Path("text.onnx"))
    write_detector(Path("bare.onnx"), dense(), names=None)
    with pytest.raises(RequestError, match="the model's metadata lacks names"):
        read_model(Path("bare.onnx"))
    write_detector(Path("masks.onnx"), dense(), task="segment")
    with pytest.raises(RequestError, match="only detectors"):
        read_model(Path("masks.onnx"))


def test_a_model_with_its_weights_in_another_file():
    onnx = pytest.importorskip("onnx")
    write_detector(MODEL, dense(), gain=np.ones((7, 40), np.float32))
    model = onnx.load(str(MODEL))
    onnx.save(model, "split.onnx", save_as_external_data=True, location="split.data", size_threshold=512)
    with pytest.raises(RequestError, match="keeps its weights in a second file, which a browser does not get"):
        read_model(Path("split.onnx"))


def test_a_model_that_never_holds_still(monkeypatch):
    detector()
    times = iter(range(100))
    monkeypatch.setattr(module, "signature", lambda path: (next(times), 0, 0))
    with pytest.raises(DistillError, match="is being written; wait until it is finished"):
        read_model(MODEL)
