"""What phones take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from traced_graphs import answer, floats

from yolo_distill.graphs.mobile import PROVIDERS, check_suitability, suit_delegates, write_ort


def suited(traced: Path, tmp_path: Path) -> Path:
    model = onnx.load(str(traced))
    suit_delegates(model)
    onnx.checker.check_model(model, full_check=True)
    file = tmp_path / "suited.onnx"
    onnx.save(model, str(file))
    return file


def test_the_check_says_no_before_and_yes_after(traced: Path, tmp_path: Path) -> None:
    before = check_suitability(traced)
    assert set(before) == set(PROVIDERS)
    assert not any(verdict["suits"] for verdict in before.values())
    assert {verdict["partitions"] for verdict in before.values()} == {3}
    after = check_suitability(suited(traced, tmp_path))
    assert set(after) == set(PROVIDERS)
    for verdict in after.values():
        assert verdict["suits"]
        assert verdict["partitions"] == 1
        assert verdict["nodes"] == verdict["of"]


def test_the_answers_are_the_same(traced: Path, pictures: list[np.ndarray], tmp_path: Path) -> None:
    file = suited(traced, tmp_path)
    for picture in pictures[:2]:
        assert np.abs(answer(file, floats(picture)) - answer(traced, floats(picture))).max() < 1e-4


def test_splits_are_even_and_nothing_has_five_dimensions(traced: Path, tmp_path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(str(suited(traced, tmp_path))))
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Split":
            assert len(set(constants[node.input[1]].tolist())) == 1
    assert {node.op_type for node in model.graph.node} & {"TopK", "NonMaxSuppression", "Gather"} == set()
    assert max(len(value.type.tensor_type.shape.dim) for value in model.graph.value_info) <= 4
    used = {name for node in model.graph.node for name in node.input}
    assert all(one.name in used for one in model.graph.initializer)


def test_the_ort_format_answers_the_same_and_names_its_operators(
    traced: Path, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    for fused in (True, False):
        folder = tmp_path / str(fused)
        folder.mkdir()
        ort, operators = write_ort(traced, folder, fused=fused)
        given = floats(pictures[0])
        session = onnxruntime.InferenceSession(str(ort))
        got = session.run(None, {session.get_inputs()[0].name: given})[0]
        assert np.abs(got - answer(traced, given)).max() < 1e-2
        assert "Conv" in operators.read_text()
        assert ("com.microsoft" in operators.read_text()) == fused
