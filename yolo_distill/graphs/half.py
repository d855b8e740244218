"""16-bit weights and activations, by ONNX Runtime's own conversion."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from yolo_distill.graphs.structure import decode_tail


def write_half(file: Path, path: Path) -> None:
    """Write a graph in fp16 whose input, output and decoding stay fp32.

    Numbers from 512 to 1024 are half a unit apart in fp16: boxes in pixels would be rounded to half pixels, so what
    comes after the last convolutions is left in fp32. It is a thousandth of the work.

    Args:
        file: the fp32 graph.
        path: where to.
    """
    model = onnx.load(str(file))
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        # The default blocks operators for devices that lack them in fp16; none but these would be met in a YOLO.
        op_block_list=["Resize"] if _opset(model) < 13 else [],
        node_block_list=decode_tail(model),
    )
    _drop_round_trips(half.graph)
    OnnxModel(half).topological_sort()  # the conversion appends its casts at the end, which the format forbids
    onnx.save(half, str(path))


def _drop_round_trips(graph: onnx.GraphProto) -> None:
    """Take out casts to fp16 and back between two nodes that stay in fp32: they would round what is to be kept."""
    producer = {output: node for node in graph.node for output in node.output}
    whole: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT:
            before = producer.get(node.input[0])
            if before is not None and before.op_type == "Cast" and before.attribute[0].i == TensorProto.FLOAT16:
                whole[node.output[0]] = before.input[0]
    for output in graph.output:  # whose name has to stay, so its origin takes it over
        if origin := whole.pop(output.name, None):
            made = producer[output.name]
            whole |= {name: output.name for name, before in whole.items() if before == origin} | {origin: output.name}
            producer[origin].output[:] = [output.name if name == origin else name for name in producer[origin].output]
            graph.node.remove(made)
    for node in graph.node:
        node.input[:] = [whole.get(name, name) for name in node.input]
    outputs = {output.name for output in graph.output}
    while idle := [
        node for node in graph.node if node.op_type == "Cast" and node.output[0] not in _used(graph) | outputs
    ]:
        for node in idle:
            graph.node.remove(node)


def _used(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input}


def _opset(model: onnx.ModelProto) -> int:
    return max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
