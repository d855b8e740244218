"""Targets and precisions through the exporter: what comes out, what it says, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from live_detector import draw, live_detector, save
from onnx import numpy_helper
from tiny_yolo import write_architecture

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.exporting import export as module
from yolo_distill.exporting import lower_precision
from yolo_distill.exporting.export import export
from yolo_distill.exporting.report import ExportReport
from yolo_distill.exporting.workspace import put_in_place
from yolo_distill.graphs.mobile import PROVIDERS
from yolo_distill.graphs.quantise import METHODS
from yolo_distill.runtime.detector import Detector

SIDE = 96
LENIENT = {"max_drop": 100.0}  # an untrained detector's mAP says nothing


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return save(live_detector(str(write_architecture(folder / "tiny.yaml", width=4))), folder / "best.pt", SIDE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with a box each."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i, picture in enumerate(draw(6, 80, 120)):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
        (folder / "labels" / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """What was said while the int8 file was made."""
    return []


@pytest.fixture(scope="module")
def int8(checkpoint: Path, data: Path, heard: list[str], tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    out = tmp_path_factory.mktemp("int8")
    return export(checkpoint, data=data, precision="int8", out=out, say=heard.append, **LENIENT)


def refusal(kind: type[DistillError], *args: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        export(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_int8_is_a_third_of_the_size_and_measured(int8: ExportReport) -> None:
    assert listing(Path(int8.path).parent) == ["best_int8.json", "best_int8.onnx"]
    assert int8.file_bytes < int8.fp32_bytes / 3
    assert set(int8.accuracy) == {"torch", "fp32", "int8"}
    assert all(0 <= figures["map"] <= 100 for figures in int8.accuracy.values())
    assert int8.accuracy["int8"]["drop"] == pytest.approx(
        int8.accuracy["fp32"]["map"] - int8.accuracy["int8"]["map"], abs=1e-2
    )
    assert int8.calibration["pictures"] == 6
    assert int8.calibration["kept"][:2] == ["decoding", "model.0"]
    assert int8.calibration["method"] in METHODS
    assert set(int8.ms) == {"torch", "fp32", "int8"}
    assert all(ms > 0 for ms in int8.ms.values())


def test_attempts_and_few_pictures_are_said(int8: ExportReport, heard: list[str]) -> None:
    assert heard[0].startswith("only 6 pictures to calibrate on; 128 or more")
    assert [line.partition(", in fp32: decoding")[0] for line in heard[1:]] == [f"int8 ({name}" for name in METHODS]


def test_the_proof_travels_with_the_file(int8: ExportReport) -> None:
    proof = json.loads(Path(int8.proof).read_text())
    assert proof["precision"] == "int8"
    assert proof["path"] == "best_int8.onnx"
    assert str(Path(int8.path).parent) not in Path(int8.proof).read_text()
    assert proof["tensors"]["input"] == {
        "name": "images",
        "type": "float32",
        "shape": [1, 3, SIDE, SIDE],
        "meaning": "a picture, letterboxed: red, green, blue, 0 to 1",
    }
    assert proof["tensors"]["output"]["shape"][:2] == [1, 6]
    assert proof["metadata"]["precision"] == "int8"
    assert Detector(int8.path).metadata["precision"] == "int8"
    summary = int8.summary()
    assert "mAP50-95 on val: torch" in summary
    assert "x fp32" in summary


def test_pictures_go_in_as_they_are(checkpoint: Path, data: Path, int8: ExportReport, tmp_path: Path) -> None:
    done = export(checkpoint, data=data, precision="int8", input="pictures", out=tmp_path, **LENIENT)
    given = onnxruntime.InferenceSession(done.path).get_inputs()[0]
    assert (given.type, given.shape) == ("tensor(uint8)", [1, SIDE, SIDE, 3])
    assert done.metadata["input_layout"] == "NHWC"
    detector = Detector(done.path)
    picture = draw(1, 80, 120)[0]
    assert len(detector(picture)) > 0
    # The evaluator hands out floats; it has to measure this form, too.
    assert evaluate(done.path, data)["map"] == pytest.approx(done.accuracy["int8"]["map"] / 100, abs=1e-4)


def test_fp16_for_phones(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    done = export(checkpoint, data=data, target="phone", out=tmp_path, **LENIENT)
    assert listing(tmp_path) == [f"best_fp16.{suffix}" for suffix in ("json", "onnx", "operators.config", "ort")]
    assert done.precision == "fp16"
    assert done.file_bytes < 0.6 * done.fp32_bytes
    assert set(done.delegates) == set(PROVIDERS)
    for verdict in done.delegates.values():
        assert verdict["suits"]
        assert verdict["partitions"] == 1
    picture = draw(1, SIDE, SIDE)[0]
    tensor = Detector(done.path).preprocess(picture)[0]
    ort = onnxruntime.InferenceSession(str(tmp_path / "best_fp16.ort"))
    got = ort.run(None, {"images": tensor})[0]
    assert np.abs(got - Detector(done.path).infer(tensor))[:, 4:].max() < 0.02
    assert "CoreML MLProgram: " in done.summary()
    proof = json.loads((tmp_path / "best_fp16.json").read_text())
    assert proof["extras"]["ORT format"]["path"] == "best_fp16.ort"
    assert (
        proof["extras"]["ORT format"]["sha256"] == hashlib.sha256((tmp_path / "best_fp16.ort").read_bytes()).hexdigest()
    )
    assert str(tmp_path) not in (tmp_path / "best_fp16.operators.config").read_text()


def test_without_boxes_agreement_is_measured(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for file in (data.parent / "images").iterdir():
        (tmp_path / "images" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
    (tmp_path / "out").mkdir()
    done = export(checkpoint, data=tmp_path / "data.yaml", precision="fp16", out=tmp_path / "out")
    assert set(done.accuracy) == {"fp16"}
    assert done.accuracy["fp16"]["matched"] >= 0.95
    assert "fp16 beside fp32: " in done.summary()


def test_a_file_over_the_line_is_not_kept(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(file: Path, path: Path) -> None:
        graph = onnx.load(str(file))
        for one in graph.graph.initializer:
            if len(one.dims) == 4 and one.dims[0] == 2:  # the class branches' last convolutions
                one.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(one), one.name))
        onnx.save(graph, str(path))

    monkeypatch.setattr(lower_precision, "write_half", spoiled)
    message = refusal(DistillError, checkpoint, precision="fp16", out=tmp_path)
    assert "precision=fp16: beside fp32 " in message
    assert "no file is kept" in message
    assert listing(tmp_path) == []


def test_what_an_earlier_export_left_does_not_stay_beside_a_new_file(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    export(checkpoint, target="phone", precision="fp32", out=file)
    assert listing(tmp_path) == [f"a.{suffix}" for suffix in ("json", "onnx", "operators.config", "ort")]
    export(checkpoint, out=file)
    assert listing(tmp_path) == ["a.json", "a.onnx"]


def test_a_stranger_s_json_is_not_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "app"}')
    assert "would be overwritten by the proof" in refusal(RequestError, checkpoint, out=tmp_path / "package.onnx")
    assert (tmp_path / "package.json").read_text() == '{"name": "app"}'


def test_all_files_or_none_are_moved(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for name in ("a", "b", "old"):
        (tmp_path / name).write_text(f"{name} before")
        (tmp_path / "work" / name).write_text(f"{name} after")
    files = [(tmp_path / "work" / "a", tmp_path / "a"), (tmp_path / "work" / "missing", tmp_path / "b")]
    with pytest.raises(FileNotFoundError):
        put_in_place(files, tmp_path / "work", [tmp_path / "old"])
    assert [(tmp_path / name).read_text() for name in ("a", "b", "old")] == ["a before", "b before", "old before"]
    files = [(tmp_path / "work" / "old", tmp_path / "a"), (tmp_path / "work" / "b", tmp_path / "new")]
    put_in_place(files, tmp_path / "work", [tmp_path / "old"])
    assert listing(tmp_path) == ["a", "b", "new", "work"]
    assert (tmp_path / "a").read_text() == "old after"


@pytest.mark.slow
def test_a_phone_file_that_does_not_suit_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save(live_detector("yolo26n.yaml"), tmp_path / "best.pt", SIDE)
    monkeypatch.setattr(module, "suit_delegates", lambda graph: None)
    message = refusal(DistillError, checkpoint, target="phone", precision="fp32", out=tmp_path)
    assert "does not suit NNAPI, CoreML NeuralNetwork, CoreML MLProgram; no file is kept" in message
    assert listing(tmp_path) == ["best.pt"]


def test_other_classes_and_missing_data(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    assert "give data=" in refusal(RequestError, checkpoint, precision="int8", out=tmp_path)
    other = data.parent / "other.yaml"
    other.write_text("train: images\nval: images\nnames: [a, b, c]\n")
    assert "has 3" in refusal(RequestError, checkpoint, precision="int8", data=other, out=tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    (tmp_path / "half.yaml").write_text(f"train: broken\nval: {data.parent / 'images'}\nnames: [round, square]\n")
    message = refusal(RequestError, checkpoint, precision="int8", data=tmp_path / "half.yaml", out=tmp_path)
    assert "none of the pictures of train can be read" in message


def test_what_does_not_go_together(checkpoint: Path) -> None:
    assert "input=pictures" in refusal(RequestError, checkpoint, target="phone", input="pictures")
    assert "top-k" in refusal(RequestError, checkpoint, target="phone", nms=False)
    assert "did you mean 'int8'" in refusal(RequestError, checkpoint, precision="int", data="x.yaml")
    assert "did you mean 'pictures'" in refusal(RequestError, checkpoint, input="picture")
    assert "max_drop" in refusal(RequestError, checkpoint, max_drop=float("nan"))


@pytest.mark.parametrize("branch", [None, False])
def test_both_branches(checkpoint: Path, data: Path, tmp_path: Path, branch: bool | None) -> None:
    done = export(checkpoint, data=data, precision="fp16", nms=branch, out=tmp_path, **LENIENT)
    graph = onnx.load(done.path)
    assert done.end2end is (branch is False)
    assert graph.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert Detector(done.path).end2end is (branch is False)
