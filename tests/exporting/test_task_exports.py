"""Files of other tasks: what is proved of masks, keypoints and turned boxes, and what the proof refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from exported import SIDE, refusal
from live_detector import live_detector, save
from onnx import numpy_helper
from tiny_yolo import write_architecture

from yolo_distill.benchmarking.run import Request, _check_measurable
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.exporting import export_data, parity
from yolo_distill.exporting.export import export
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.runtime.detector import Detector

OWN = {"segment": "mask_iou", "pose": "keypoint_px", "obb": "angle_deg"}
each_task = pytest.mark.parametrize("task", ["segment", pytest.param("pose", marks=pytest.mark.slow), "obb"])
#: One task in every run, the others in the long one.
some_task = pytest.mark.parametrize(
    "task", ["segment", *(pytest.param(task, marks=pytest.mark.slow) for task in ("pose", "obb"))]
)


@pytest.fixture(scope="session")
def made(tmp_path_factory, unlabelled):
    """Return a function that returns a task's checkpoint and its fp32 file, made once."""
    kept: dict[str, Any] = {}

    def make(task: str) -> tuple[Path, Any]:
        if task not in kept:
            folder = tmp_path_factory.mktemp(task)
            model = live_detector(str(write_architecture(folder / "tiny.yaml", width=4, task=task)), task=task)
            checkpoint = save(model, folder / "best.pt", SIDE)
            kept[task] = checkpoint, export(checkpoint, data=unlabelled)
        return kept[task]

    return make


def test_labels_of_another_task_are_refused_before_the_work(labelled):
    model = load_architecture("yolo26n-seg.yaml", 2)
    model.pt_path, model.names = "n-seg.pt", {0: "round", 1: "square"}
    said = refusal(RequestError, export_data.read_data, labelled, model, (SIDE, SIDE), "fp32", 1)
    assert "has a row of 5 values, and the model is for segment" in said
    asked = Request("n-seg.onnx", data=str(labelled))
    assert said == refusal(RequestError, _check_measurable, [SimpleNamespace(task="segment", kind="onnx")], asked)


@each_task
def test_the_proof_is_about_what_the_task_finds(task, made):
    _, done = made(task)
    proof = json.loads(Path(done.proof).read_text())
    first = proof["detections"][0]
    assert first["same"] >= 20
    assert first["missing"] == 0
    value = first["own"][OWN[task]]
    assert value >= 0.99 if task == "segment" else value <= 0.1
    detector = Detector(done.path)
    assert (detector.task, done.metadata["task"]) == (task, task)
    assert ("prototypes" in proof["tensors"]) == (task == "segment")


@some_task
def test_the_one_to_one_branch_is_proved_as_well(task, made, unlabelled, tmp_path):
    done = export(made(task)[0], data=unlabelled, nms=False, out=tmp_path)
    assert done.detections[0].own.keys() == {OWN[task]}
    assert Detector(done.path).end2end


@each_task
def test_pictures_in_which_nothing_is_found_prove_it_as_well(task, made, unlabelled, monkeypatch):
    checkpoint, done = made(task)
    monkeypatch.setattr(parity, "CONF", 1.0)
    pictures = export_data.proof_pictures(unlabelled)
    _, (none, some) = parity.prove(Path(done.path), load_detector(checkpoint), pictures)
    assert (none.torch, none.file, none.missing, none.own) == (0, 0, 0, {})
    assert some.same


@each_task
def test_a_file_whose_own_branch_is_wrong_is_refused(task, made, unlabelled, tmp_path):
    """Boxes and scores are right; what the task adds is not."""
    checkpoint, done = made(task)
    graph = onnx.load(done.path)
    name = "proto" if task == "segment" else "cv4"
    (held, *_) = (one for one in graph.graph.initializer if name in one.name and len(one.dims) == 4)
    held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) * np.float32(1.1), held.name))
    onnx.save(graph, tmp_path / "changed.onnx")
    said = refusal(
        DistillError,
        parity.prove,
        tmp_path / "changed.onnx",
        load_detector(checkpoint),
        export_data.proof_pictures(unlabelled),
    )
    assert said.startswith("the exported file does not answer like the checkpoint")


@pytest.mark.parametrize(
    ("task", "change"),
    [("segment", "masks"), pytest.param("pose", "keypoints", marks=pytest.mark.slow), ("obb", "turned")],
)
def test_a_runtime_that_finds_otherwise_is_refused(task, change, made, unlabelled, monkeypatch):
    checkpoint, done = made(task)
    right = Detector.postprocess

    def wrong(*args: Any, **options: Any) -> Any:
        (found,) = right(*args, **options)
        own = getattr(found, change)
        if change == "masks":
            own.pieces[:] = [piece._replace(bits=np.roll(piece.bits, 2, 0)) for piece in own.pieces]
        else:
            (own.data if change == "keypoints" else own)[..., -1 if change == "turned" else 0] += 0.5
        return [found]

    monkeypatch.setattr(Detector, "postprocess", wrong)
    said = refusal(
        DistillError, parity.prove, Path(done.path), load_detector(checkpoint), export_data.proof_pictures(unlabelled)
    )
    assert OWN[task] in said or "does not detect like the checkpoint" in said


@some_task
def test_half_precision_agrees(task, made, unlabelled, tmp_path):
    done = export(made(task)[0], data=unlabelled, precision="fp16", out=tmp_path)
    assert done.accuracy["fp16"]["matched"] >= 0.95


@some_task
def test_phones_run_all_of_it(task, made, unlabelled, tmp_path):
    done = export(made(task)[0], data=unlabelled, target="phone", out=tmp_path)
    assert {done.delegates[name]["suits"] for name in ("NNAPI", "CoreML MLProgram")} == {"yes"}
    assert (tmp_path / "best.ort").is_file()
