"""8 bits: what is quantised, what is not, and how near the answers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from traced_graphs import answer, floats, nodes_of

from yolo_distill.graphs.quantise import Quantiser


@pytest.fixture(scope="module")
def quantiser(traced: Path, pictures: list[np.ndarray]) -> Quantiser:
    return Quantiser(traced, map(floats, pictures))


def written(quantiser: Quantiser, file: Path, keep: list[str]) -> tuple[Any, ...]:
    """Return an int8 file's model, its constants by name, and its nodes by their outputs."""
    quantiser.write(file, keep=keep)
    model = onnx.load(str(file))
    onnx.checker.check_model(model)
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    return model, constants, {output: node for node in model.graph.node for output in node.output}


def test_only_what_is_kept_stays_in_float_and_weights_have_a_scale_a_channel(quantiser, tmp_path):
    before = quantiser.model.SerializeToString()
    keep = [*nodes_of(quantiser.kept_always(pictures=False)), "/model.1/conv/Conv"]
    model, constants, made_by = written(quantiser, tmp_path / "int8.onnx", keep)
    assert quantiser.model.SerializeToString() == before
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    whole = {node.name for node in convolutions if node.input[1] not in made_by}
    assert whole == {node.name for node in convolutions} & set(keep)
    for node in convolutions:
        if node.name not in whole:
            weights, scale, _ = (constants[name] for name in made_by[node.input[1]].input)
            assert weights.dtype == np.int8
            assert scale.shape == (weights.shape[0],)
    assert "/model.0/conv/Conv" in keep


def test_a_step_of_an_input_of_pictures_is_a_level(quantiser, tmp_path):
    keep = nodes_of(quantiser.kept_always(pictures=True))
    model, constants, _ = written(quantiser, tmp_path / "int8.onnx", keep)
    assert "/model.0/conv/Conv" not in keep
    first = next(node for node in model.graph.node if model.graph.input[0].name in node.input)
    assert first.op_type == "QuantizeLinear"
    assert constants[first.input[1]] == np.float32(1) / np.float32(255)
    assert constants[first.input[2]] == 0


@pytest.mark.parametrize("method", ["minmax", pytest.param("percentile 99.99", marks=pytest.mark.slow)])
def test_answers_stay_near_and_a_quantised_tail_ruins_them(traced, pictures, tmp_path, method):
    quantiser = Quantiser(traced, map(floats, pictures), method=method)
    gaps = {}
    for name, keep in (("good", nodes_of(quantiser.kept_always(pictures=False))), ("bad", [])):
        file = tmp_path / f"{name}.onnx"
        quantiser.write(file, keep=keep)
        assert file.stat().st_size < traced.stat().st_size / 3
        pairs = [(answer(file, floats(one)), answer(traced, floats(one))) for one in pictures]
        gaps[name] = np.mean([np.abs(ours - right)[:, 4:].mean() for ours, right in pairs])
    assert 0 < gaps["good"] < 0.2  # an untrained network has outliers that a trained one has not
    assert gaps["bad"] > 1.5 * gaps["good"]
