"""What phones take."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from traced_graphs import answer, floats

from yolo_distill.graphs.half import write_half
from yolo_distill.graphs.mobile import PROVIDERS, check_suitability, suit_delegates, write_ort


@pytest.mark.parametrize(  # the tiny one suits them as it is
    "traced", ["yolo26n", pytest.param("yolov8n", marks=pytest.mark.slow)], indirect=True
)
def test_a_rewritten_graph_suits_the_delegates_and_answers_the_same(traced, pictures, tmp_path):
    model = onnx.load(str(traced))
    suit_delegates(model)
    onnx.checker.check_model(model, full_check=True)
    file = tmp_path / "suited.onnx"
    onnx.save(model, str(file))
    before, after = check_suitability(traced), check_suitability(file)
    assert set(before) == set(after) == set(PROVIDERS)
    assert {one["suits"] for one in before.values()} == {"no"}
    for provider in ("NNAPI", "CoreML MLProgram"):
        one = after[provider]
        assert (one["partitions"], one["suits"], one["why"], one["nodes"]) == (1, "yes", [], one["of"])
    for picture in pictures[:2]:
        assert np.abs(answer(file, floats(picture)) - answer(traced, floats(picture))).max() < 1e-4
    used = {name for node in model.graph.node for name in node.input}
    assert all(one.name in used for one in model.graph.initializer)


@pytest.mark.slow
def test_the_verdicts_are_those_of_the_command_where_nothing_is_refused(traced, tmp_path):
    model = onnx.load(str(traced))
    suit_delegates(model)
    fp32, fp16 = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"
    onnx.save(model, str(fp32))
    write_half(fp32, fp16)
    for file, at_least in ((fp32, {"NNAPI", "CoreML MLProgram"}), (fp16, {"CoreML MLProgram"})):
        command = [sys.executable, "-m", "onnxruntime.tools.check_onnx_model_mobile_usability", str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        whole = {provider: one for provider, one in check_suitability(file).items() if not one["why"]}
        assert at_least <= set(whole)
        for provider, one in whole.items():
            assert f"Model should perform well with {provider} as is: {one['suits'].upper()}" in said
            if file == fp32:  # fp16 has casts on this CPU
                counted = f"{one['partitions']} partitions with a total of {one['nodes']}/{one['of']} nodes"
                assert f"{counted} can be handled by the {provider} EP" in said


def _graph(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (1, 6, 4, 4)) -> bytes:
    given, out = (helper.make_tensor_value_info(name, kind, side) for name, side in (("x", shape), ("out", None)))
    used = {name for node in nodes for name in node.input}
    constants = {"sizes": np.array([2, 4]), "half": np.ones(1, np.float16)}
    held = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(list(nodes), "graph", [given], [out], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("graph", "refused_by", "why"),
    [
        (_graph(helper.make_node("Add", ["x", "half"], ["out"]), kind=TensorProto.FLOAT16), 2, "float16 tensors"),
        (_graph(helper.make_node("MatMul", ["x", "x"], ["out"])), 1, "MatMul of two computed tensors"),
        (_graph(helper.make_node("Split", ["x", "sizes"], ["out", "b"], axis=1)), 1, "Split into unequal parts"),
        (_graph(helper.make_node("Tanh", ["x"], ["out"]), shape=(1, 1, 6, 4, 4)), 1, "more than four dimensions"),
        (_graph(helper.make_node("IsNaN", ["x"], ["n"]), helper.make_node("Tanh", ["x"], ["out"])), 3, "no IsNaN"),
    ],
)
def test_what_a_provider_refuses_is_said(graph, refused_by, why, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(graph)
    found = check_suitability(tmp_path / "graph.onnx")
    assert [one["why"] for one in found.values()].count([why]) == refused_by
    assert all(one["suits"] == "yes" for one in found.values() if not one["why"])


def test_a_graph_that_was_not_simplified_is_rewritten_as_well(tmp_path):
    sizes = helper.make_node("Constant", [], ["parts"], value=onnx.numpy_helper.from_array(np.array([2, 4])))
    split = helper.make_node("Split", ["x", "parts"], ["out", "b"], axis=1, name="split")
    model = onnx.load_from_string(_graph(sizes, split))
    suit_delegates(model)
    assert [node.op_type for node in model.graph.node] == ["Slice", "Slice"]
    onnx.save(model, str(tmp_path / "graph.onnx"))
    assert check_suitability(tmp_path / "graph.onnx")["NNAPI"]["suits"] == "yes"


def test_the_ort_format_answers_the_same_and_names_its_operators(traced, pictures, tmp_path):
    given = floats(pictures[0])
    for fused in (True, False):
        folder = tmp_path / str(fused)
        folder.mkdir()
        ort, operators = write_ort(traced, folder, fused=fused)
        session = onnxruntime.InferenceSession(str(ort))
        got = session.run(None, {session.get_inputs()[0].name: given})[0]
        assert np.abs(got - answer(traced, given)).max() < 1e-2
        assert "Conv" in operators.read_text()
        assert ("com.microsoft" in operators.read_text()) == fused
