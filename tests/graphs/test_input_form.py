"""Graphs that take pictures answer like those that take floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from traced_graphs import SIDE, answer, floats, nodes_of

from yolo_distill.graphs.half import write_half
from yolo_distill.graphs.input_form import take_floats, take_pictures
from yolo_distill.graphs.quantise import Quantiser


def forms(file: Path) -> tuple[bytes, bytes]:
    """Return a graph changed to take pictures, and changed back."""
    model = onnx.load(str(file))
    take_pictures(model)
    onnx.checker.check_model(model, full_check=True)
    given = model.graph.input[0].type.tensor_type
    assert given.elem_type == onnx.TensorProto.UINT8
    assert [side.dim_value for side in given.shape.dim] == [1, SIDE, SIDE, 3]
    taken = model.SerializeToString()
    take_floats(model)
    onnx.checker.check_model(model, full_check=True)
    return taken, model.SerializeToString()


@pytest.mark.parametrize(
    "precision", ["fp32", "fp16", "int8", pytest.param("int8 with a float start", marks=pytest.mark.slow)]
)
def test_same_answers(traced, pictures, tmp_path, precision):
    file = traced
    if precision == "fp16":
        file = tmp_path / "half.onnx"
        write_half(traced, file)
    elif precision.startswith("int8"):
        file = tmp_path / "int8.onnx"
        quantiser = Quantiser(traced, map(floats, pictures))
        quantiser.write(file, keep=nodes_of(quantiser.kept_always(pictures=precision == "int8")))
    taken, back = forms(file)
    for picture in pictures[:3]:
        wanted, got = answer(file, floats(picture)), answer(taken, picture[None])
        # Another order of the colours adds up in another order; whole numbers do not mind.
        box, score = {"fp32": (0.01, 1e-4), "int8": (0, 0)}.get(precision, (2, 0.02))
        assert np.abs(got - wanted)[:, :4].max() <= box
        assert np.abs(got - wanted)[:, 4:].max() <= score
        assert (answer(back, floats(picture)) == got).all()
    assert np.abs(answer(taken, pictures[0][None]) - answer(taken, pictures[1][None])).max() > 0.01


def dynamic(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def negated(graph: onnx.GraphProto) -> None:
    first = next(node for node in graph.node if "images" in node.input)
    first.input[0] = "negative"
    graph.node.insert(0, onnx.helper.make_node("Neg", ["images"], ["negative"], name="/negative"))


@pytest.mark.parametrize(
    ("change", "says"), [(dynamic, "expected static pictures in colour"), (negated, "there is Neg")]
)
def test_other_graphs_are_refused(traced, change, says):
    model = onnx.load(str(traced))
    change(model.graph)
    with pytest.raises(ValueError, match=says):
        take_pictures(model)
