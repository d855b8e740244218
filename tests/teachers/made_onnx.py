"""Writes ONNX files whose outputs are known: constants, the same for each picture, or what the pictures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="test models are written with onnx")
_KINDS = {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64}


def write_constants(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    *,
    shape: Sequence[int | str] = ("batch", 3, 64, 64),
    batched: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a file that answers every picture with the same arrays.

    Args:
        path: the file.
        outputs: by name, without the dimension of the batch.
        shape: of the input; with or without the dimension of the batch.
        batched: whether the outputs have the dimension of the batch.
        notes: metadata.
    """
    make, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, constants = [make.make_node("ReduceMean", ["images"], ["mean"], axes=[-3, -2, -1], keepdims=0)], []
    nodes.append(make.make_node("Sub", ["mean", "mean"], ["nothing"]))  # (B,)
    for name, array in outputs.items():
        side = [-1] + [1] * array.ndim
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        constants += [
            numpy_helper.from_array(np.array(side, np.int64), f"{name}_side"),
            numpy_helper.from_array(array.astype(kind)[None] if batched else array.astype(kind), f"{name}_kept"),
        ]
        if not batched:
            nodes.append(make.make_node("Identity", [f"{name}_kept"], [name]))
            continue
        nodes += [
            make.make_node("Reshape", ["nothing", f"{name}_side"], [f"{name}_zeros"]),
            make.make_node(
                "Cast", [f"{name}_zeros"], [f"{name}_typed"], to=make.np_dtype_to_tensor_dtype(np.dtype(kind))
            ),
            make.make_node("Add", [f"{name}_typed", f"{name}_kept"], [name]),
        ]
    return _save(path, nodes, constants, list(shape), 1, {n: a.dtype.kind for n, a in outputs.items()}, notes)


def write_means(path: Path, shape: Sequence[int | str], kind: str = "FLOAT", sizes: str | None = None) -> Path:
    """Write a file whose one box a picture is (mean of colour 0, of 1, of 2, 0), with score 1 and class 0.

    Args:
        path: the file.
        shape: of the input, in whichever layout.
        kind: of the input, as ONNX calls it.
        sizes: name of a second input, (B, 2), whose sum takes the place of the last number of the box.
    """
    make, numpy_helper = onnx.helper, onnx.numpy_helper
    colours = list(shape).index(3)
    axes = [axis for axis in range(1, 4) if axis != colours]
    nodes = [
        make.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        make.make_node("ReduceMean", ["floats"], ["means"], axes=axes, keepdims=0),  # (B, 3)
        make.make_node("ReduceSum", ["means", "last"], ["sum"], keepdims=1),
        make.make_node("Sub", ["sum", "sum"], ["none"]),  # (B, 1)
        make.make_node("Add", ["none", "one"], ["score"]),
        make.make_node("Cast", ["none"], ["labels"], to=onnx.TensorProto.INT64),
    ]
    fourth = "none"
    if sizes is not None:
        nodes += [
            make.make_node("Cast", [sizes], ["sizes_float"], to=onnx.TensorProto.FLOAT),
            make.make_node("Slice", ["sizes_float", "zero", "first", "last"], ["width"]),
        ]
        fourth = "width"
    nodes += [
        make.make_node("Concat", ["means", fourth], ["box"], axis=1),
        make.make_node("Unsqueeze", ["box", "last"], ["boxes"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "last"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "first"),
        numpy_helper.from_array(np.ones((1, 1), np.float32), "one"),
    ]
    outputs = {"boxes": "f", "score": "f", "labels": "i"}
    return _save(path, nodes, constants, list(shape), getattr(onnx.TensorProto, kind), outputs, None, sizes)


def _save(
    path: Path,
    nodes: list[Any],
    constants: list[Any],
    shape: list[int | str],
    kind: int,
    outputs: Mapping[str, str],
    notes: Mapping[str, Any] | None,
    sizes: str | None = None,
) -> Path:
    make, tensor = onnx.helper, onnx.TensorProto
    inputs = [make.make_tensor_value_info("images", kind, shape)]
    if sizes is not None:
        inputs.append(make.make_tensor_value_info(sizes, tensor.INT64, [shape[0], 2]))
    given = [
        make.make_tensor_value_info(n, tensor.FLOAT if k == "f" else tensor.INT64, None) for n, k in outputs.items()
    ]
    graph = make.make_graph(nodes, "made", inputs, given, constants)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    make.set_model_props(model, {key: str(value) for key, value in (notes or {}).items()})
    onnx.save(model, str(path))
    return path
