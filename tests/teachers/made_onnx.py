"""Writes ONNX files whose outputs are known: constants, the same for each picture, or what the pictures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="test models are written with onnx")
_FLOAT, _INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
_node = onnx.helper.make_node


def write_constants(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    *,
    shape: Sequence[int | str] = ("batch", 3, 64, 64),
    batched: bool = True,
) -> Path:
    """Write a file that answers every picture with the same arrays, which are given without a dimension of the batch.

    `shape` of the input and `batched` outputs may have that dimension or not.
    """
    nodes = [_node("ReduceMean", ["images"], ["mean"], axes=[-3, -2, -1], keepdims=0)]
    nodes.append(_node("Sub", ["mean", "mean"], ["nothing"]))  # (B,)
    constants: dict[str, np.ndarray] = {}
    for name, array in outputs.items():
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        constants[f"{name}_side"] = np.array([-1] + [1] * array.ndim, np.int64)
        constants[f"{name}_kept"] = array[None] if batched else array
        if not batched:
            nodes.append(_node("Identity", [f"{name}_kept"], [name]))
            continue
        nodes += [
            _node("Reshape", ["nothing", f"{name}_side"], [f"{name}_zeros"]),
            _node("Cast", [f"{name}_zeros"], [f"{name}_typed"], to=_FLOAT if array.dtype.kind == "f" else _INT64),
            _node("Add", [f"{name}_typed", f"{name}_kept"], [name]),
        ]
    kinds = {name: _FLOAT if array.dtype.kind == "f" else _INT64 for name, array in outputs.items()}
    return _save(path, nodes, constants, {"images": (_FLOAT, shape)}, kinds)


def write_means(path: Path, shape: Sequence[int | str], kind: str = "FLOAT", sizes: str | None = None) -> Path:
    """Write a file whose one box a picture is (mean of colour 0, of 1, of 2, 0), with score 1 and class 0.

    Args:
        path: the file.
        shape: of the input, in whichever layout.
        kind: of the input, as ONNX calls it.
        sizes: name of a second input, (B, 2), whose first column takes the place of the last number of the box.
    """
    colours = list(shape).index(3)
    nodes = [
        _node("Cast", ["images"], ["floats"], to=_FLOAT),
        _node("ReduceMean", ["floats"], ["means"], axes=[a for a in (1, 2, 3) if a != colours], keepdims=0),  # (B, 3)
        _node("ReduceSum", ["means", "last"], ["sum"], keepdims=1),
        _node("Sub", ["sum", "sum"], ["none"]),  # (B, 1)
        _node("Add", ["none", "one"], ["score"]),
        _node("Cast", ["none"], ["labels"], to=_INT64),
    ]
    inputs = {"images": (getattr(onnx.TensorProto, kind), shape)}
    if sizes is not None:
        inputs[sizes] = (_INT64, [shape[0], 2])
        nodes += [
            _node("Cast", [sizes], ["sizes_float"], to=_FLOAT),
            _node("Slice", ["sizes_float", "zero", "last", "last"], ["width"]),
        ]
    nodes += [
        _node("Concat", ["means", "width" if sizes else "none"], ["box"], axis=1),
        _node("Unsqueeze", ["box", "last"], ["boxes"]),
    ]
    constants = {"last": np.array([1]), "zero": np.array([0]), "one": np.ones((1, 1), np.float32)}
    return _save(path, nodes, constants, inputs, {"boxes": _FLOAT, "score": _FLOAT, "labels": _INT64})


def _save(
    path: Path,
    nodes: list[Any],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, int],
) -> Path:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "made",
        [value(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
        [value(name, kind, None) for name, kind in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path
