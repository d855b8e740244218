"""int8 files that are trained: torch computes what the file does, and the answers come nearer to fp32's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported import SIDE
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture

from yolo_distill.errors import DistillError
from yolo_distill.exporting import int8_training
from yolo_distill.exporting.int8_training import train_int8
from yolo_distill.exporting.onnx_file import annotate, notes_of_source, trace
from yolo_distill.exporting.torch_graph import TorchGraph
from yolo_distill.graphs.mobile import suit_delegates
from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.graphs.structure import all_anchors
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.runtime.detector import Detector


def traced(folder: Path, plan: str, task: str = "detect", nms: bool | None = None) -> Path:
    """Return the fp32 file of an untrained detector."""
    checkpoint = save(live_detector(plan, task=task), folder / "best.pt", SIDE)
    file = trace(load_detector(checkpoint), folder, "model", (SIDE, SIDE), nms, 17, True)
    annotate(file, notes_of_source(checkpoint))
    return file


def answers(file: Path, batch: np.ndarray, tensor: str) -> np.ndarray:
    """Return a tensor of a graph, picture by picture."""
    model = onnx.load(str(file))
    if tensor not in {output.name for output in model.graph.output}:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.concatenate([session.run([tensor], {"images": one[None]})[0] for one in batch])


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [one[..., ::-1].transpose(2, 0, 1).copy() for one in draw(8, SIDE, SIDE)]


@pytest.mark.parametrize(
    ("plan", "task", "nms"),
    [
        ("tiny", "detect", None),
        ("tiny", "pose", False),
        ("tiny", "segment", None),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("yolo26n.yaml", "detect", False), ("yolo11n-obb.yaml", "obb", None), ("yolo12n.yaml", "detect", None),
                ("yolov8n-pose.yaml", "pose", None), ("yolov10n.yaml", "detect", False),
                ("yolo11n-seg.yaml", "segment", None),
            ]
        ),
    ],
)  # fmt: skip
def test_torch_computes_what_the_graph_says(tmp_path, pictures, plan, task, nms):
    if plan == "tiny":
        plan = str(write_architecture(tmp_path / "tiny.yaml", width=4, task=task))
    file = traced(tmp_path, plan, task, nms)
    model = onnx.load(str(file))
    batch = np.stack(pictures[:2]).astype(np.float32) / 255
    end = all_anchors(model)
    wanted = [end, *(output.name for output in model.graph.output[1:])]  # prototypes of masks
    for rewrite in [lambda model: None, *([suit_delegates] if task == "segment" else [])]:
        rewrite(model)
        found = TorchGraph(model)(torch.from_numpy(batch), wanted, {}, {})
        assert found[end].shape[2] == sum((SIDE // stride) ** 2 for stride in (8, 16, 32))
        for name in wanted:
            right = answers(file, batch, name)
            assert found[name].shape == right.shape
            assert np.abs(found[name].numpy() - right).max() < 1e-3 * np.abs(right).max()


@pytest.mark.parametrize("task", ["detect", pytest.param("segment", marks=pytest.mark.slow)])
def test_a_trained_file_answers_more_like_fp32(tmp_path, pictures, monkeypatch, task):
    monkeypatch.setattr(int8_training, "STEPS", 20)
    monkeypatch.setattr(int8_training, "_SCALES_LR", 0.2)
    file = traced(tmp_path, str(write_architecture(tmp_path / "tiny.yaml", width=4, task=task)), task)
    # Calibrated on what is too bright, ranges are too wide.
    quantiser = Quantiser(file, [one[None].astype(np.float32) / np.float32(60) for one in pictures])
    keep = [node for nodes in quantiser.kept_always(pictures=False).values() for node in nodes]
    means = Detector(file, providers="cpu").meaning
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    quantiser.write(before, keep=keep)
    said: list[str] = []
    state = torch.get_rng_state()
    train_int8(quantiser, before, pictures, means, said.append)
    assert torch.equal(torch.get_rng_state(), state)
    quantiser.write(after, keep=keep)
    assert said[-1] == "training the int8 file: step 20/20, about 0 s left"
    others = (
        np.stack([one[..., ::-1].transpose(2, 0, 1) for one in draw(8, SIDE, SIDE, seed=5)]).astype(np.float32) / 255
    )
    right = answers(file, others, "output0")
    gaps = {one.stem: np.abs(answers(one, others, "output0") - right)[:, 4:6].mean() for one in (before, after)}
    assert 0 < gaps["after"] < 0.7 * gaps["before"]
    kinds = [[node.op_type for node in onnx.load(str(one)).graph.node] for one in (before, after)]
    assert sorted(kinds[0]) == sorted(kinds[1])


def test_an_operator_that_torch_graph_does_not_know_is_named(tmp_path, pictures):
    file = traced(tmp_path, str(write_architecture(tmp_path / "tiny.yaml", width=4)))
    quantiser = Quantiser(file, [pictures[0][None].astype(np.float32) / np.float32(255)])
    means = Detector(file, providers="cpu").meaning
    model = onnx.load(str(file))
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Erf"
    quantiser.model = model
    with pytest.raises(DistillError, match="tune=true: the graph has the operator Erf, which can't be trained here"):
        train_int8(quantiser, file, pictures, means, lambda text: None)
