"""What `model=` may name, and what is known of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from made_detector import dense, write_detector

from yolo_distill.benchmarking.models import find_models
from yolo_distill.errors import RequestError

RAW = dense((32, 32, 20, 20, 0.9, 0.1, 0.0))
NOTES = "stride: 32\ntask: detect\nimgsz: [64, 96]\nnames: {0: a, 1: b}\nend2end: false\nargs: {quantize: 16}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder as the host exports one for ncnn, but for its weights."""
    made = tmp_path / "a_ncnn_model"
    made.mkdir()
    (made / "metadata.yaml").write_text(NOTES)
    (made / "model.ncnn.bin").write_bytes(b"weights")
    return made


def test_an_onnx_file(tmp_path):
    file = write_detector(tmp_path / "a.onnx", RAW, imgsz=(64, 96), precision="int8")
    (model,) = find_models(str(file), None, False)
    assert (model.label, model.kind, model.imgsz, model.free_size) == ("a.onnx", "onnx", (64, 96), False)
    assert (model.precision, model.input_shape, model.input_dtype) == ("int8", (1, 3, 64, 96), "float32")
    assert model.size == file.stat().st_size
    assert model.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_dynamic_file_takes_another_size(tmp_path):
    file = write_detector(tmp_path / "a.onnx", RAW, dynamic=True)
    (model,) = find_models(str(file), (96, 64), False)
    assert (model.imgsz, model.free_size, model.input_shape) == ((96, 64), True, (1, 3, 96, 64))


def test_a_folder_and_its_digest(folder):
    (model,) = find_models(f"{folder}/", None, False)
    assert (model.label, model.kind, model.imgsz, model.precision) == ("a_ncnn_model", "ncnn", (64, 96), "fp16")
    assert model.size == len(NOTES) + len(b"weights")
    (folder / "model.ncnn.bin").rename(folder / "other.ncnn.bin")
    (renamed,) = find_models(str(folder), None, False)
    assert renamed.sha256 != model.sha256


def test_names_that_are_there_twice_become_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(Path("x", "best.onnx")), str(Path("y", "best.onnx")), "other.onnx"]
    for path in paths:
        Path(path).parent.mkdir(exist_ok=True)
        write_detector(Path(path), RAW)
    assert [model.label for model in find_models(" , ".join(paths), None, False)] == paths


@pytest.mark.parametrize(
    ("text", "imgsz", "says"),
    [
        (" , ", None, "names no file"),
        ("best.onx", None, r"model=best.onx: is none of \*.onnx, \*.pt, \*_openvino_model, \*_ncnn_model"),
        ("bets.onnx", None, "model=bets.onnx: no such file; did you mean 'best.onnx'"),
        ("b_ncnn_model", None, "model=b_ncnn_model: no such folder; did you mean 'a_ncnn_model'"),
        ("best.onnx,./best.onnx", None, "model=./best.onnx: is given twice, as best.onnx too"),
        ("a_ncnn_model", (96, 96), "imgsz=96,96: a_ncnn_model takes 64,96 only"),
        ("empty.onnx", None, "empty.onnx: is empty"),
        ("bare_openvino_model", None, "model=bare_openvino_model: its metadata.yaml: cannot be read"),
    ],
)
def test_bad_entries(text, imgsz, says, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    write_detector(Path("best.onnx"), RAW)
    Path("empty.onnx").touch()
    Path("bare_openvino_model").mkdir()
    with pytest.raises(RequestError, match=says):
        find_models(text, imgsz, False)


@pytest.mark.parametrize(
    ("notes", "says"),
    [("a: [", "is not YAML"), ("- a", "holds no keys and values"), ("task: detect", "lacks names, stride, imgsz")],
)
def test_bad_notes_of_a_folder(notes, says, folder):
    (folder / "metadata.yaml").write_text(notes)
    with pytest.raises(RequestError, match=says):
        find_models(str(folder), None, False)
