"""8 bits: what is quantised, what is not, and how near the answers stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from traced_graphs import answer, floats, nodes_of

from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.graphs.structure import decode_tail


@pytest.fixture(scope="module")
def quantiser(traced: Path, pictures: list[np.ndarray]) -> Quantiser:
    return Quantiser(traced, map(floats, pictures))


def quantised(model: onnx.ModelProto) -> set[str]:
    """Return the names of the convolutions whose weights are 8 bits wide."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in made_by and made_by[node.input[1]].op_type == "DequantizeLinear"
    }


def test_only_what_is_kept_stays_in_float(quantiser: Quantiser, tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    keep = [*nodes_of(quantiser.kept_always(pictures=False)), "/model.1/conv/Conv"]
    quantiser.write(file, keep=keep)
    model = onnx.load(str(file))
    onnx.checker.check_model(model)
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions - quantised(model) == convolutions & set(keep)
    assert "/model.0/conv/Conv" in keep
    assert "/model.0/conv/Conv" not in nodes_of(quantiser.kept_always(pictures=True))


def test_weights_have_a_scale_a_channel(quantiser: Quantiser, tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    quantiser.write(file, keep=decode_tail(quantiser.model))
    model = onnx.load(str(file))
    constants = {one.name: one for one in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    conv = next(node for node in model.graph.node if node.name == "/model.1/conv/Conv")
    weights, scale, _ = (numpy_helper.to_array(constants[name]) for name in made_by[conv.input[1]].input)
    assert weights.dtype == np.int8
    assert scale.shape == (weights.shape[0],)


def test_a_step_of_the_input_is_a_level_of_the_picture(quantiser: Quantiser, tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    quantiser.write(file, keep=nodes_of(quantiser.kept_always(pictures=True)))
    model = onnx.load(str(file))
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    first = next(node for node in model.graph.node if model.graph.input[0].name in node.input)
    assert first.op_type == "QuantizeLinear"
    assert constants[first.input[1]] == np.float32(1) / np.float32(255)
    assert constants[first.input[2]] == 0


@pytest.mark.parametrize("method", ["minmax", pytest.param("percentile 99.99", marks=pytest.mark.slow)])
def test_answers_stay_near_and_a_quantised_tail_ruins_them(
    traced: Path, pictures: list[np.ndarray], tmp_path: Path, method: str
) -> None:
    quantiser = Quantiser(traced, map(floats, pictures), method=method)
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    quantiser.write(good, keep=nodes_of(quantiser.kept_always(pictures=False)))
    quantiser.write(bad)
    gaps = {}
    for file in (good, bad):
        pairs = [(answer(file, floats(one)), answer(traced, floats(one))) for one in pictures]
        gaps[file] = np.mean([np.abs(ours - right)[:, 4:].mean() for ours, right in pairs])
    assert 0 < gaps[good] < 0.2  # an untrained network has outliers that a trained one has not
    assert gaps[bad] > 1.5 * gaps[good]
    assert good.stat().st_size < traced.stat().st_size / 3


def test_the_float_graph_is_left_as_it_is(quantiser: Quantiser, tmp_path: Path) -> None:
    before = quantiser.model.SerializeToString()
    quantiser.write(tmp_path / "int8.onnx")
    assert quantiser.model.SerializeToString() == before
