"""The backends on real files: they do the same work, with as many threads as they are told."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_rows import made_model

from yolo_distill.benchmark.backends import Row
from yolo_distill.benchmark.engine import Engine, Job, job_of
from yolo_distill.benchmark.engines import open_engine
from yolo_distill.benchmark.memory import measure_in_process, peak_memory
from yolo_distill.benchmark.models import Model, find_models
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.runtime.detector import Detector

torch = pytest.importorskip("torch")
pytest.importorskip("ultralytics")

CONF = 0.0007  # an untrained detector is sure of nothing


@pytest.fixture(autouse=True)
def _threads():
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Return an untrained checkpoint, with its .onnx beside it."""
    from ultralytics.nn.tasks import DetectionModel

    from yolo_distill.exporting.export import export

    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", nc=2, verbose=False)
    model.names = {0: "disc", 1: "square"}
    path = tmp_path_factory.mktemp("engines") / "best.pt"
    torch.save({"model": model, "train_args": {"imgsz": 64, "task": "detect"}}, path)
    export(path)
    return path


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def job(path: Path, backend: str, threads: int = 1) -> Job:
    (model,) = find_models(str(path), None, False)
    return job_of(model, backend, threads, "cpu", CONF)


def answer(engine: Engine, picture: np.ndarray) -> np.ndarray:
    raw = engine.forward(engine.prepare(picture))
    return np.array(raw.numpy() if isinstance(raw, torch.Tensor) else raw)


def folder_of(weights: Path, format: str) -> Path:
    """Return what the host exports the checkpoint to."""
    from ultralytics import YOLO

    return Path(YOLO(str(weights)).export(format=format, imgsz=64))


def test_ours_is_the_detector(weights, picture):
    file = weights.with_suffix(".onnx")
    engine, detector = open_engine(job(file, "ours")), Detector(file, threads=1)
    assert engine.detect(picture) == len(detector(picture, conf=CONF)) > 0
    np.testing.assert_array_equal(answer(engine, picture), detector.infer(detector.preprocess(picture)[0]))


def test_the_host_does_the_same_work_on_the_same_file(weights, picture):
    file = weights.with_suffix(".onnx")
    host, ours = open_engine(job(file, "host")), open_engine(job(file, "ours"))
    np.testing.assert_allclose(answer(host, picture)[0], answer(ours, picture)[0], atol=1e-3)
    assert host.detect(picture) == pytest.approx(ours.detect(picture), rel=0.1)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_host_opens_a_file_with_the_threads_it_is_told(weights, threads):
    import onnxruntime

    before = onnxruntime.InferenceSession
    host = open_engine(job(weights.with_suffix(".onnx"), "host", threads))
    session = host._predictor.model.backend.session
    assert session.get_session_options().intra_op_num_threads == threads
    host.detect(np.zeros((64, 64, 3), np.uint8))
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (threads, threads)
    assert onnxruntime.InferenceSession is before


def test_a_checkpoint_is_run_by_the_host_in_the_smallest_rectangle(weights, picture):
    host = open_engine(job(weights, "host"))
    assert tuple(host.prepare(picture).shape) == (1, 3, 64, 64)
    wide = np.zeros((40, 160, 3), np.uint8)
    assert tuple(host.prepare(wide).shape) == (1, 3, 32, 64)
    assert host.detect(picture) > 0


def test_openvino_answers_like_onnxruntime_in_full_precision(weights, picture):
    pytest.importorskip("openvino")
    file = weights.with_suffix(".onnx")
    exact, ours = open_engine(job(file, "openvino-fp32")), open_engine(job(file, "ours"))
    assert exact.precision is None
    np.testing.assert_allclose(answer(exact, picture), answer(ours, picture), atol=1e-3)
    assert exact.detect(picture) == pytest.approx(ours.detect(picture), rel=0.1)


def test_openvino_says_what_it_computes_in(weights, picture):
    pytest.importorskip("openvino")
    fast = open_engine(job(weights.with_suffix(".onnx"), "openvino"))
    assert fast.precision in {None, "bf16", "fp16"}
    assert answer(fast, picture).shape == (1, 6, 84)


@pytest.mark.parametrize(("format", "needs"), [("openvino", ["openvino"]), ("ncnn", ["ncnn", "pnnx"])])
def test_folders_of_the_host_answer_like_the_file(weights, picture, format, needs):
    for module in needs:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    backend = {"openvino": "openvino-fp32"}.get(format, format)
    folder = open_engine(job(folder_of(weights, format), backend))
    ours = open_engine(job(weights.with_suffix(".onnx"), "ours"))
    np.testing.assert_allclose(answer(folder, picture), answer(ours, picture), atol=1e-2)
    assert folder.detect(picture) == pytest.approx(ours.detect(picture), rel=0.1)


@pytest.mark.parametrize(("backend", "ending"), [("openvino", "_openvino_model"), ("ncnn", "_ncnn_model")])
def test_a_folder_without_weights(backend, ending, tmp_path):
    pytest.importorskip(backend)
    folder = tmp_path / f"a{ending}"
    folder.mkdir()
    (folder / "metadata.yaml").write_text("stride: 32\ntask: detect\nimgsz: [64, 64]\nnames: {0: a}\n")
    with pytest.raises(RequestError, match=r"holds 0 .* files"):
        open_engine(job(folder, backend))


def test_the_input_is_not_overwritten_by_the_next_picture(weights, picture):
    pytest.importorskip("openvino")
    engine = open_engine(job(weights.with_suffix(".onnx"), "openvino-fp32"))
    prepared = engine.prepare(picture)
    before = answer(engine, picture)
    engine.detect(np.zeros_like(picture))
    np.testing.assert_array_equal(engine.forward(prepared), before)


def test_memory_is_that_of_the_model_and_not_of_the_process_that_asks(weights, picture):
    ballast = np.ones(100_000_000)  # 800 MB
    figures = measure_in_process(job(weights.with_suffix(".onnx"), "ours"), picture)
    assert ballast.sum() == 100_000_000
    if (peak := peak_memory()) is None:
        pytest.skip("this system does not say")
    assert peak > 800_000_000
    assert 20_000_000 < figures["memory_bytes"] < 500_000_000
    assert figures["ready_ms"] > 0


def test_a_model_that_cannot_be_opened_in_its_process_says_why(tmp_path, picture):
    row = Row(made_model(str(tmp_path / "gone.onnx")), "ours", optional=False)
    assert isinstance(row.model, Model)
    with pytest.raises(DistillError, match=r"gone\.onnx: no such file"):
        measure_in_process(job_of(row.model, "ours", 1, "cpu", CONF), picture)


def test_a_process_that_crashes_is_an_error_of_one_line(weights, picture, monkeypatch):
    import yolo_distill.benchmark.memory as memory

    monkeypatch.setattr(memory, "__name__", "faulthandler")  # a module that ends without a word of ours
    with pytest.raises(DistillError, match="its process ended with exit code"):
        measure_in_process(job(weights.with_suffix(".onnx"), "ours"), picture)
