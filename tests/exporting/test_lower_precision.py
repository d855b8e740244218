"""fp16 and int8: what is tried, in which order, where the line is drawn, and what comes out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import LENIENT, SIDE, class_branches, listing, refusal, scale
from live_detector import draw, live_detector, save
from ultralytics.data.augment import LetterBox

from yolo_distill.errors import DistillError
from yolo_distill.evaluation.detection_agreement import Agreement
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.exporting import acceptance, lower_precision
from yolo_distill.exporting import export as module
from yolo_distill.exporting.acceptance import Guard, Verdict
from yolo_distill.exporting.export import export
from yolo_distill.exporting.export_data import ExportData
from yolo_distill.exporting.layer_sensitivity import _distance
from yolo_distill.exporting.lower_precision import to_fp16, to_int8
from yolo_distill.exporting.report import ExportReport
from yolo_distill.graphs.quantise import METHODS
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.postprocess import Postprocess

# --- the guard -------------------------------------------------------------------------------------------------------


def test_map_decides_where_there_are_boxes(monkeypatch):
    figures = {"reference": 50.0, "near": 49.71, "far": 49.69, "better": 50.4, "nan": np.nan}
    monkeypatch.setattr(acceptance, "measure", lambda file, data, **_: {"map": figures[str(file)], "map50": 80.0})
    guard = Guard(Path("reference"), ExportData([], "data.yaml"), 0.3)
    verdicts = {name: guard.judge(Path(name)) for name in ("near", "far", "better", "nan")}
    assert {name: verdict.ok for name, verdict in verdicts.items()} == {
        "near": True, "far": False, "better": True, "nan": False,
    }  # fmt: skip
    assert verdicts["near"].figures["drop"] == pytest.approx(0.29)
    assert "-0.29 to fp32" in str(verdicts["near"])
    assert "at most 0.3 mAP50-95 below fp32 (50.0)" in guard.wanted()


@pytest.mark.parametrize("data", [None, "data.yaml"])
def test_agreement_decides_where_there_are_no_boxes_or_none_is_found(monkeypatch, data):
    monkeypatch.setattr(acceptance, "measure", lambda file, data, **_: {"map": 0.0, "map50": 0.0})
    guard = Guard(Path("reference"), ExportData([], data), 0.3)
    for matched, gap, ok in ((0.96, 0.01, True), (0.94, 0.01, False), (0.99, 0.04, False), (np.nan, 0.0, False)):
        monkeypatch.setattr(acceptance, "agreement", lambda *_, m=matched, g=gap: Agreement(m, g, 9, 0.25))
        verdict = guard.judge(Path("file"))
        assert verdict.ok is ok
        assert f"{100 * matched:.1f} % of the detections" in str(verdict)
    monkeypatch.setattr(acceptance, "agreement", lambda *_: Agreement(0.0, 0.0, 0, 0.25))
    assert ("give data=" in str(guard.judge(Path("file")))) is (data is None)
    assert "95 % of the detections the same" in guard.wanted()


def test_a_file_over_the_line_is_not_kept(checkpoint, tmp_path, monkeypatch):
    def spoiled(file: Path, path: Path) -> None:
        path.write_bytes(file.read_bytes())
        scale(path, -1, class_branches)

    monkeypatch.setattr(lower_precision, "write_half", spoiled)
    message = refusal(DistillError, export, checkpoint, precision="fp16", out=tmp_path)
    assert "precision=fp16: beside fp32 " in message
    assert "no file is kept" in message
    assert listing(tmp_path) == []


# --- the search for an int8 file -------------------------------------------------------------------------------------


class Judge:
    """Stands for the guard: accepts the file of a number, if any; knows what each loses."""

    def __init__(self, loss: Callable[[int], float], accepts: int | None = None) -> None:
        self.seen: list[str] = []
        self.finds_nothing = False
        self._loss, self._accepts = loss, accepts

    def judge(self, file: Path) -> Verdict:
        self.seen.append(file.name)
        loss = self._loss(len(self.seen))
        return Verdict(len(self.seen) == self._accepts, loss, {}, f"{50 - loss:.1f} mAP50-95, {-loss:+.2f} to fp32")

    def wanted(self) -> str:
        return "at most 0.3"


@pytest.fixture
def search(report: ExportReport, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that looks for an int8 file which a judge accepts, and returns it and what was said."""

    def run(judge: Judge, file: str = report.path, side: int = SIDE, tune: bool = False) -> tuple[Any, list[str]]:
        letterbox = LetterBox((side, side), scaleup=True)
        pictures = [letterbox(image=one)[..., ::-1].transpose(2, 0, 1) for one in draw(4, 64, 80)]
        said: list[str] = []
        found = to_int8(
            Path(file), tmp_path / "int8.onnx", judge, pictures,  # type: ignore[arg-type]
            takes_pictures=False, tune=tune, say=said.append, progress=lambda text: None,
        )  # fmt: skip
        return found, said

    return run


@pytest.mark.slow  # a detector of many layers, each of which is left out once
def test_layers_are_kept_one_two_four_until_it_is_enough(search, tmp_path):
    file = export(save(live_detector("yolov8n.yaml"), tmp_path / "best.pt", 64)).path
    done, said = search(Judge(lambda at: 6.0 - at, accepts=6), file, 64)
    assert [line.count("model.") for line in said] == [1, 1, 1, 2, 3, 5]
    assert done.kept[:4] == tuple(said[3].split("in fp32: ")[1].split("): ")[0].split(", "))
    graph = onnx.load(str(done.path)).graph
    made_by = {output: node for node in graph.node for output in node.output}
    whole = {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] not in made_by}
    for layer in done.kept[2:]:
        assert any(name.startswith("/" + layer.replace(".cv", "/cv")) for name in whole), layer
    assert any(node.op_type == "Conv" and node.input[1] in made_by for node in graph.node)


def test_nothing_is_good_enough(search, monkeypatch):
    layers = [(f"model.{at}", [f"/model.{at}/conv/Conv"]) for at in (1, 3, 4, 2)]
    monkeypatch.setattr(lower_precision, "rank_layers", lambda *_: layers)
    message = refusal(DistillError, search, Judge(lambda at: {5: 2.0}.get(at, 3.0)))
    assert "best of 5 attempts" in message
    assert "48.0 mAP50-95, -2.00 to fp32; wanted at most 0.3; no file is kept; give tune=true, more pictures" in message


def test_a_model_that_finds_nothing_is_told_so_at_once(search, monkeypatch):
    judge = Judge(lambda at: 3.0)
    judge.finds_nothing = True
    message = refusal(DistillError, search, judge, tune=True)
    assert len(judge.seen) == len(METHODS)
    assert message.endswith("; no file is kept; in fp32 the model has 0.0 mAP50-95 on val: train it further")
    monkeypatch.setattr(lower_precision, "write_half", lambda *_: None)
    message = refusal(DistillError, to_fp16, Path("a.onnx"), Path("b.onnx"), judge)
    assert message.endswith("; no file is kept; in fp32 the model has 0.0 mAP50-95 on val: train it further")


def test_a_method_that_the_values_do_not_suit_is_left_out(search, monkeypatch):
    class Narrow(lower_precision.Quantiser):
        def __init__(self, *args: Any, method: str) -> None:
            if METHODS[method]:
                np.histogram([1.0, np.nextafter(1.0, 2.0)], 2048)
            super().__init__(*args, method=method)

    monkeypatch.setattr(lower_precision, "Quantiser", Narrow)
    done, said = search(Judge(lambda at: 1.0, accepts=1))
    assert (done.method, len(said)) == ("minmax", len(METHODS))
    assert said[1].startswith("int8 (percentile 99.999): left out, as a tensor hardly varies (Too many bins")


def test_a_calibration_that_is_good_enough_is_taken_even_if_another_one_finds_more(search):
    done, said = search(Judge(lambda at: {1: 1.0}.get(at, 2.0), accepts=2))
    assert (done.method, len(said)) == (list(METHODS)[1], 3)


def test_the_best_calibration_is_trained_where_none_is_good_enough(search, monkeypatch):
    trained: list[str] = []
    monkeypatch.setattr(lower_precision, "train_int8", lambda _, file, *__: trained.append(file.name))
    done, said = search(Judge(lambda at: {2: 1.0}.get(at, 3.0), accepts=4), tune=True)
    assert trained == [f"int8-{list(METHODS)[1]}.onnx"]
    assert (done.path.name, done.method, done.calibration["pictures"]) == (
        "int8.onnx",
        f"{list(METHODS)[1]}, trained",
        4,
    )
    assert len(said) == 4


def test_a_training_that_made_it_worse_is_left_behind(search, monkeypatch):
    ranked: list[Any] = []

    def rank(file: Path, quantiser: Any, *rest: Any) -> list[tuple[str, list[str]]]:
        ranked.append(quantiser)
        return [(f"model.{at}", [f"/model.{at}/conv/Conv"]) for at in (1, 3)]

    monkeypatch.setattr(lower_precision, "train_int8", lambda quantiser, *_: quantiser.take({}, {"images": (0, 9)}))
    monkeypatch.setattr(lower_precision, "rank_layers", rank)
    done, _ = search(Judge(lambda at: {2: 1.0, 4: 5.0}.get(at, 3.0), accepts=5), tune=True)
    assert (done.method, done.kept[-1]) == (list(METHODS)[1], "model.1")
    assert ranked[0]._ranges["images"].range_value == (0, 1)


def test_distance_weighs_what_is_sure():
    means = Postprocess({0: "round", 1: "square"}, "detect", None, end2end=False)
    right = np.zeros((1, 6, 3))
    right[0, :4] = [[10] * 3, [10] * 3, [4] * 3, [4] * 3]
    right[0, 4] = [0.5, 0.01, 0.01]
    background, object_ = right.copy(), right.copy()
    background[0, :4, 1] += 1
    assert _distance(background, right, means) == 0
    object_[0, :4, 0] += 1  # a pixel off, of a box of 4 pixels, weighed by its score
    object_[0, 4, 0] = 0.7
    assert _distance(object_, right, means) == pytest.approx(0.7 * (0.2 + 0.25))
    rows = np.random.default_rng(0).random((1, 300, 6))
    end2end = dataclasses.replace(means, end2end=True)
    assert _distance(rows[:, ::-1], rows, end2end) == 0  # sorted rows may have changed places
    lower = rows.copy()
    lower[0, 0, 4] -= 0.25
    assert _distance(lower, rows, end2end) > 0


def test_what_a_task_has_besides_boxes_is_no_score():
    means = Postprocess({0: "round"}, "pose", (2, 2), end2end=False)
    right = np.zeros((1, 9, 2))
    right[0, 4] = [0.5, 0]
    right[0, 5:] = 80  # pixels; one is a score of nothing
    off, background = right.copy(), right.copy()
    off[0, 5, 0] += 8
    background[0, 5, 1] += 8
    assert _distance(off, right, means) == pytest.approx(0.5 * 8 / 80)
    assert _distance(background, right, means) == 0
    masks = dataclasses.replace(means, task="segment", kpt_shape=None)
    protos = np.ones((1, 4, 2, 2))
    assert _distance((right, protos), (right, protos), masks) == 0
    assert _distance((right, protos * 0.9), (right, protos), masks) == pytest.approx(0.5 * 0.1)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_int8_is_a_third_of_the_size_and_measured(checkpoint, labelled, tmp_path):
    heard: list[str] = []
    done = export(checkpoint, data=labelled, precision="int8", out=tmp_path, say=heard.append, **LENIENT)
    assert listing(tmp_path) == ["best_int8.json", "best_int8.md", "best_int8.onnx"]
    assert done.file_bytes < done.fp32_bytes / 3
    points = {name: figures["map"] for name, figures in done.accuracy.items()}
    assert set(points) == set(done.ms) == {"torch", "fp32", "int8"}
    assert done.accuracy["int8"]["drop"] == pytest.approx(points["fp32"] - points["int8"], abs=1e-2)
    assert (done.calibration["pictures"], done.calibration["kept"][:3]) == (5, ["decoding", "last layers", "model.0"])
    assert heard[0].startswith("only 5 pictures to calibrate on; 128 or more")
    assert [line.partition(", in fp32: decoding")[0] for line in heard[1:]] == [f"int8 ({name}" for name in METHODS]
    proof = json.loads(Path(done.proof).read_text())
    assert proof["tensors"]["input"] == {
        "name": "images",
        "type": "float32",
        "shape": [1, 3, SIDE, SIDE],
        "meaning": "a picture, letterboxed: red, green, blue, 0 to 1",
    }
    assert proof["tensors"]["output"]["shape"][:2] == [1, 6]
    assert proof["metadata"]["precision"] == Detector(done.path).metadata["precision"] == "int8"
    assert "mAP50-95 on val: torch" in done.summary()
    assert "x fp32" in done.summary()


@pytest.mark.slow
def test_the_best_of_the_ranges_is_taken_and_pictures_go_in_as_they_are(checkpoint, labelled, tmp_path, monkeypatch):
    judge, losses = Guard.judge, iter((0.2, 0.1, 0.15))
    monkeypatch.setattr(Guard, "judge", lambda *args: Verdict(True, next(losses), judge(*args).figures, "as good"))
    done = export(checkpoint, data=labelled, precision="int8", input="pictures", out=tmp_path)
    assert done.calibration["method"] == list(METHODS)[1]
    given = onnxruntime.InferenceSession(done.path).get_inputs()[0]
    assert (given.type, given.shape) == ("tensor(uint8)", [1, SIDE, SIDE, 3])
    assert done.metadata["input_layout"] == "NHWC"
    assert len(Detector(done.path)(draw(1, 80, 120)[0])) > 0
    # The evaluator hands out floats; it has to measure this form, too.
    assert evaluate(done.path, labelled)["map"] == pytest.approx(done.accuracy["int8"]["map"] / 100, abs=1e-4)


def test_fp32_for_phones_and_nothing_of_it_stays_beside_a_new_file(checkpoint, unlabelled, tmp_path):
    done = export(checkpoint, data=unlabelled, target="phone", out=tmp_path / "a.onnx")
    assert listing(tmp_path) == [f"a.{suffix}" for suffix in ("json", "md", "onnx", "operators.config", "ort")]
    assert done.precision == "fp32"
    suited = [done.delegates[name] for name in ("NNAPI", "CoreML MLProgram")]
    assert [(one["suits"], one["partitions"], one["why"]) for one in suited] == [("yes", 1, [])] * 2
    assert "operators in 1 partition, suits" in done.summary()
    ort = tmp_path / "a.ort"
    tensor = Detector(done.path).preprocess(draw(1, SIDE, SIDE)[0])[0]
    session = onnxruntime.InferenceSession(str(ort))
    got = session.run(None, {"images": tensor})[0]
    assert np.abs(got - Detector(done.path).infer(tensor))[:, 4:].max() < 0.001
    assert session.get_modelmeta().custom_metadata_map["license"].startswith("AGPL-3.0")
    said = json.loads((tmp_path / "a.json").read_text())["extras"]["ORT format"]
    assert (said["path"], said["sha256"]) == ("a.ort", hashlib.sha256(ort.read_bytes()).hexdigest())
    assert str(tmp_path) not in (tmp_path / "a.operators.config").read_text()
    export(checkpoint, out=tmp_path / "a.onnx")
    assert listing(tmp_path) == ["a.json", "a.md", "a.onnx"]


def test_fp16_for_phones_is_for_mlprogram_alone(checkpoint, unlabelled, tmp_path):
    done = export(checkpoint, data=unlabelled, target="phone", precision="fp16", out=tmp_path / "a.onnx")
    assert listing(tmp_path) == ["a.json", "a.md", "a.onnx"]  # the ORT format would compute in fp32
    assert done.file_bytes < 0.6 * done.fp32_bytes
    assert done.accuracy["fp16"]["matched"] >= 0.95  # without boxes, agreement is measured
    assert "fp16 beside fp32: " in done.summary()
    assert {name: one["suits"] for name, one in done.delegates.items()} == {
        "NNAPI": "no", "CoreML NeuralNetwork": "no", "CoreML MLProgram": "yes",
    }  # fmt: skip
    (line,) = (line for line in done.summary().splitlines() if line.startswith("NNAPI: "))
    assert "does not suit: " in line
    assert "float16 tensors" in line
    assert done.metadata["license"].startswith("AGPL-3.0")


@pytest.mark.slow
def test_int8_for_phones_is_for_the_cpu_and_says_nothing_of_delegates(checkpoint, labelled, tmp_path):
    done = export(checkpoint, data=labelled, target="phone", precision="int8", out=tmp_path / "a.onnx", **LENIENT)
    assert (tmp_path / "a.ort").exists()
    assert not done.delegates
    assert done.metadata["license"].startswith("AGPL-3.0")


@pytest.mark.slow
def test_a_phone_file_that_does_not_suit_is_not_kept(tmp_path, monkeypatch):
    checkpoint = save(live_detector("yolo26n.yaml"), tmp_path / "best.pt", SIDE)
    monkeypatch.setattr(module, "suit_delegates", lambda graph: None)
    message = refusal(DistillError, export, checkpoint, target="phone", out=tmp_path)
    assert "does not suit NNAPI (Split into unequal parts, tensors of unknown shape), CoreML MLProgram (" in message
    assert message.endswith("; no file is kept")
    assert listing(tmp_path) == ["best.pt"]


def test_an_activation_that_phones_lack_is_named(monkeypatch):
    found = {name: {"suits": "partly", "why": ["no HardSigmoid"]} for name in ("NNAPI", "CoreML MLProgram")}
    monkeypatch.setattr(module, "check_suitability", lambda file: found)
    plan = SimpleNamespace(precision="fp32", target=SimpleNamespace(name="phone"))
    message = refusal(DistillError, module._suitability, plan, Path("a.onnx"))
    assert message.endswith("no file is kept; train the student with student_act=relu, or give target=cpu")


@pytest.mark.slow
def test_the_one_to_one_branch_in_fp16(checkpoint, unlabelled, tmp_path):
    done = export(checkpoint, data=unlabelled, precision="fp16", nms=False, out=tmp_path)
    assert done.end2end is Detector(done.path).end2end is True
    assert onnx.load(done.path).graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
