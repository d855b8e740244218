"""A detector's ONNX graph run by torch, so that gradients pass through it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from yolo_distill.errors import DistillError

#: Makes a node's answer out of the node, its attributes and its inputs.
Operator = Callable[..., Any]


class TorchGraph:
    """A graph that was traced with one picture and takes any number.

    Attributes:
        nodes: in the order in which they are run.
        constants: the initializers by name.
        input: name of the pictures.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {
            one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer
        }
        self.input = str(model.graph.input[0].name)
        self._attributes = [
            {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute} for node in self.nodes
        ]

    def __call__(
        self, pictures: Tensor, wanted: Collection[str], given: Mapping[str, Tensor], own: Mapping[str, Operator]
    ) -> dict[str, Any]:
        """Return tensors by name.

        Args:
            pictures: (B, C, H, W).
            wanted: the names; what they don't take is not run where it comes behind them.
            given: tensors that are not computed but taken from here.
            own: operators that are not those of `OPERATORS`.

        Raises:
            DistillError: an operator is in neither.
        """
        values: dict[str, Any] = {**self.constants, **given, self.input: pictures}

        def reshape(_: Any, __: Any, x: Tensor, shape: Tensor) -> Tensor:
            first, *others = shape.tolist()  # pictures, or their parts
            return x.reshape([first * len(pictures) if first > 0 else first, *others])

        operators: dict[str, Operator] = {**OPERATORS, "Reshape": reshape, **own}
        wanted = set(wanted)
        for node, attributes in zip(self.nodes, self._attributes, strict=True):
            if values.keys() >= wanted:
                break
            if node.output[0] in given:
                continue
            if node.op_type not in operators:
                raise DistillError(f"tune=true: the graph has the operator {node.op_type}, which can't be trained here")
            inputs = [values[name] if name else None for name in node.input]
            answer = operators[node.op_type](node, attributes, *inputs)
            values.update(zip(node.output, answer if len(node.output) > 1 else [answer], strict=True))
        return {name: values[name] for name in wanted}


def _padded(x: Tensor, attributes: Mapping[str, Any], value: float) -> Tensor:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return F.pad(x, (left, right, top, bottom), value=value)


def _conv(_: Any, a: Mapping[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = _padded(x, a, 0)
    return F.conv2d(x, weight, bias, a.get("strides", 1), 0, a.get("dilations", 1), a.get("group", 1))


def _conv_transpose(_: Any, a: Mapping[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    padding = a.get("pads", [0, 0])[:2]
    return F.conv_transpose2d(x, weight, bias, a.get("strides", 1), padding, 0, a.get("group", 1))


def _max_pool(_: Any, a: Mapping[str, Any], x: Tensor) -> Tensor:
    return F.max_pool2d(_padded(x, a, -torch.inf), a["kernel_shape"], a.get("strides", 1))


def _slice(
    _: Any, a: Mapping[str, Any], x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor | None = None
) -> Tensor:
    whole = torch.ones_like(starts) if steps is None else steps
    for start, end, axis, step in zip(*(one.tolist() for one in (starts, ends, axes, whole)), strict=True):
        where = [slice(None)] * x.dim()
        where[axis] = slice(start, end, step)
        x = x[tuple(where)]
    return x


def _split(node: Any, a: Mapping[str, Any], x: Tensor, sizes: Tensor | None = None) -> Any:
    axis = a.get("axis", 0)
    return torch.split(x, x.shape[axis] // len(node.output) if sizes is None else sizes.tolist(), axis)


def _resize(_: Any, a: Mapping[str, Any], x: Tensor, __: Any, scales: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=scales.tolist()[2:], mode=a["mode"].decode())


def _clip(_: Any, a: Mapping[str, Any], x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(low, high)


def _depth_to_space(_: Any, a: Mapping[str, Any], x: Tensor) -> Tensor:
    side = a["blocksize"]  # of mode DCR, which is the default and what `suit_delegates` makes
    apart = x.reshape(len(x), side, side, -1, *x.shape[2:])
    return apart.permute(0, 3, 4, 1, 5, 2).reshape(len(x), -1, x.shape[2] * side, x.shape[3] * side)


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "Slice": _slice,
    "Split": _split,
    "Resize": _resize,
    "Clip": _clip,
    "DepthToSpace": _depth_to_space,
    "Transpose": lambda _, a, x: x.permute(a["perm"]),
    "Concat": lambda _, a, *parts: torch.cat(parts, a["axis"]),
    "Softmax": lambda _, a, x: x.softmax(a.get("axis", -1)),
    "HardSigmoid": lambda _, a, x: (x * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda _, a, x: F.hardswish(x),
    "MatMul": lambda _, a, x, y: x @ y,
    "Add": lambda _, a, x, y: x + y,
    "Sub": lambda _, a, x, y: x - y,
    "Mul": lambda _, a, x, y: x * y,
    "Div": lambda _, a, x, y: x / y,
    "Sigmoid": lambda _, a, x: x.sigmoid(),
    "Relu": lambda _, a, x: x.relu(),
    "Exp": lambda _, a, x: x.exp(),
    "Cos": lambda _, a, x: x.cos(),
    "Sin": lambda _, a, x: x.sin(),
}
