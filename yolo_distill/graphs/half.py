"""16-bit weights and activations, by ONNX Runtime's own conversion."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.onnx_model import OnnxModel

from yolo_distill.graphs.structure import decode_tail


def write_half(file: Path, path: Path) -> None:
    """Write a graph in fp16 whose input, output and decoding stay fp32.

    Numbers from 512 to 1024 are half a unit apart in fp16: boxes in pixels would be rounded to half pixels, so what
    comes after the last convolutions is left in fp32. It is a thousandth of the work.

    Relies on: the conversion takes out casts to fp16 and back between two nodes that stay in fp32, which would round
    what is to be kept.

    Args:
        file: the fp32 graph.
        path: where to.
    """
    model = OnnxModel(onnx.load(str(file)))
    opset = max(entry.version for entry in model.model.opset_import if entry.domain in {"", "ai.onnx"})
    model.convert_float_to_float16(
        use_symbolic_shape_infer=False,
        keep_io_types=True,
        # The default blocks operators for devices that lack them in fp16; none but these would be met in a YOLO.
        op_block_list=["Resize"] if opset < 13 else [],
        node_block_list=decode_tail(model.model),
    )
    model.topological_sort()  # the conversion appends its casts at the end, which the format forbids
    onnx.save(model.model, str(path))
