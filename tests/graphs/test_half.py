"""16 bits."""

from __future__ import annotations

import numpy as np
import onnx
from traced_graphs import answer, floats

from yolo_distill.graphs.half import write_half


def test_half_the_size_and_the_same_answers_but_for_rounding(traced, pictures, tmp_path):
    file = tmp_path / "half.onnx"
    write_half(traced, file)
    model = onnx.load(str(file))
    onnx.checker.check_model(model, full_check=True)  # sorted, too
    assert file.stat().st_size < 0.6 * traced.stat().st_size
    for value in (model.graph.input[0], model.graph.output[0]):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for picture in pictures[:3]:
        gap = np.abs(answer(file, floats(picture)) - answer(traced, floats(picture)))
        assert 0 < gap[:, 4:].mean() < 0.01
    # Boxes are not rounded: above 64 the numbers of fp16 are a 16th apart.
    centres = answer(file, floats(pictures[0]))[0, 0].astype(np.float64)
    far = centres[centres > 64]
    assert (np.abs(far * 16 - np.round(far * 16)) > 1e-3).any()
