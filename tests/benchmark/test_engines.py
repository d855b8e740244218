"""The backends on real files: they do the same work, with as many threads as they are told."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_detector import live_detector, save
from made_rows import made_row
from tiny_yolo import write_architecture

from yolo_distill.benchmarking import memory
from yolo_distill.benchmarking.engines import Engine, Job, open_engine
from yolo_distill.benchmarking.memory import measure_in_process, peak_memory
from yolo_distill.benchmarking.models import find_models
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.runtime.detector import Detector

torch = pytest.importorskip("torch")

CONF = 0.25


@pytest.fixture(autouse=True)
def _torch_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Return an untrained checkpoint, with its .onnx beside it."""
    from yolo_distill.exporting.export import export

    folder = tmp_path_factory.mktemp("engines")
    path = save(live_detector(str(write_architecture(folder / "tiny.yaml", width=4))), folder / "best.pt", 64)
    export(path)
    return path


@pytest.fixture(scope="module")
def file(weights) -> Path:
    return weights.with_suffix(".onnx")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def opened(path: Path, backend: str, threads: int = 1) -> Engine:
    return open_engine(job(path, backend, threads))


def job(path: Path, backend: str = "ours", threads: int = 1) -> Job:
    (model,) = find_models(str(path), None, False)
    return Job(model, backend, threads, "cpu", CONF)


def answer(engine: Engine, picture: np.ndarray) -> np.ndarray:
    raw = engine.forward(engine.prepare(picture))
    raw = raw[0] if isinstance(raw, list) else raw
    return np.array(raw.numpy() if isinstance(raw, torch.Tensor) else raw)


def test_ours_is_the_detector(file, picture):
    engine, detector = opened(file, "ours"), Detector(file, threads=1)
    assert engine.detect(picture) == len(detector(picture, conf=CONF)) > 0
    np.testing.assert_array_equal(answer(engine, picture), detector.infer(detector.preprocess(picture)[0]))


@pytest.mark.parametrize(
    ("backend", "format", "needs"),
    [
        ("host", None, []),
        ("openvino-fp32", None, ["openvino"]),
        ("openvino-fp32", "openvino", ["openvino"]),
        ("ncnn", "ncnn", ["ncnn", "pnnx"]),
    ],
)
def test_others_do_the_same_work(weights, file, picture, backend, format, needs):
    """On the .onnx file itself, or on what the host exports the checkpoint to."""
    from ultralytics import YOLO

    if lacking := [module for module in needs if find_spec(module) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    path = Path(YOLO(str(weights)).export(format=format, imgsz=64)) if format else file
    engine, ours = opened(path, backend), opened(file, "ours")
    assert engine.precision is None
    prepared, right = np.asarray(engine.prepare(picture)), answer(ours, picture)
    gap = np.abs(answer(engine, picture).reshape(right.shape) - right)
    assert gap[:, :4].max() < 0.1  # pixels
    assert gap[:, 4:].max() < 2e-3
    assert engine.detect(picture) == pytest.approx(ours.detect(picture), rel=0.1)
    engine.detect(np.zeros_like(picture))  # does not write over what was prepared
    np.testing.assert_array_equal(prepared, np.asarray(engine.prepare(picture)))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_host_opens_a_file_with_the_threads_it_is_given(file, threads):
    import onnxruntime

    before = onnxruntime.InferenceSession
    host = opened(file, "host", threads)
    session = host._predictor.model.backend.session
    assert session.get_session_options().intra_op_num_threads == threads
    host.detect(np.zeros((64, 64, 3), np.uint8))
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (threads, threads)
    assert onnxruntime.InferenceSession is before


def test_a_checkpoint_is_run_by_the_host_in_the_smallest_rectangle(weights, picture):
    host = opened(weights, "host")
    assert tuple(host.prepare(np.zeros((40, 160, 3), np.uint8)).shape) == (1, 3, 32, 64)
    assert host.detect(picture) > 0


def test_openvino_says_what_it_computes_in(file, picture):
    pytest.importorskip("openvino")
    fast = opened(file, "openvino")
    assert fast.precision in {None, "bf16", "fp16"}
    assert answer(fast, picture).shape == (1, 6, 84)


@pytest.mark.parametrize(("backend", "ending"), [("openvino", "_openvino_model"), ("ncnn", "_ncnn_model")])
def test_a_folder_without_weights(backend, ending, tmp_path):
    pytest.importorskip(backend)
    folder = tmp_path / f"a{ending}"
    folder.mkdir()
    (folder / "metadata.yaml").write_text("stride: 32\ntask: detect\nimgsz: [64, 64]\nnames: {0: a}\n")
    with pytest.raises(RequestError, match=r"holds 0 .* files"):
        opened(folder, backend)


@pytest.mark.slow
def test_memory_is_that_of_the_model_and_not_of_the_process_that_asks(file, picture):
    ballast = np.ones(100_000_000)  # 800 MB
    figures = measure_in_process(job(file), picture)
    assert ballast.sum() == 100_000_000
    if (peak := peak_memory()) is None:
        pytest.skip("this system does not say")
    assert peak > 800_000_000
    assert 20_000_000 < figures["memory_bytes"] < 500_000_000
    assert figures["import_ms"] > 10  # nobody loaded onnxruntime before
    assert figures["ready_ms"] > 0


def test_a_process_that_cannot_open_its_model_or_crashes_is_an_error_of_one_line(file, picture, tmp_path, monkeypatch):
    gone = made_row(str(tmp_path / "gone.onnx")).model
    with pytest.raises(DistillError, match=r"gone\.onnx: no such file"):
        measure_in_process(Job(gone, "ours", 1, "cpu", CONF), picture)
    monkeypatch.setattr(memory, "__name__", "faulthandler")  # a module that ends without a word of ours
    with pytest.raises(DistillError, match="its process ended with exit code"):
        measure_in_process(job(file), picture)
