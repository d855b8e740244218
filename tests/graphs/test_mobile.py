"""What phones take."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from traced_graphs import answer, floats

from yolo_distill.graphs.mobile import PROVIDERS, check_suitability, suit_delegates, write_ort


def test_a_rewritten_graph_suits_the_delegates_and_answers_the_same(traced, pictures, tmp_path):
    model = onnx.load(str(traced))
    suit_delegates(model)
    onnx.checker.check_model(model, full_check=True)
    file = tmp_path / "suited.onnx"
    onnx.save(model, str(file))
    before, after = check_suitability(traced), check_suitability(file)
    assert set(before) == set(after) == set(PROVIDERS)
    assert {(one["partitions"], one["suits"]) for one in before.values()} == {(3, False)}
    assert {(one["partitions"], one["suits"], one["nodes"] == one["of"]) for one in after.values()} == {(1, True, True)}
    for picture in pictures[:2]:
        assert np.abs(answer(file, floats(picture)) - answer(traced, floats(picture))).max() < 1e-4
    used = {name for node in model.graph.node for name in node.input}
    assert all(one.name in used for one in model.graph.initializer)
    # What the check does not look at: splits into unequal parts, and more than four dimensions.
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    splits = [constants[node.input[1]].tolist() for node in model.graph.node if node.op_type == "Split"]
    assert all(len(set(sizes)) == 1 for sizes in splits)
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    assert max(len(value.type.tensor_type.shape.dim) for value in shapes) <= 4


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
