"""Lets a graph take a picture as OpenCV and cameras give it: (1, H, W, 3), uint8, blue-green-red."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yolo_distill.graphs.structure import first_convolution

#: What such a file says about its input; one that says nothing takes NCHW, RGB, 0-1.
NOTES = {"input_layout": "NHWC", "input_colour": "BGR", "input_range": "0-255"}

_PICTURE, _PLANES, _FLOAT, _UNIT = "picture", "picture_planes", "picture_float", "picture_unit"
_LEVELS = "picture_levels"


def take_pictures(model: onnx.ModelProto) -> None:
    """Change a graph, in place, so that it takes uint8 pictures; the answers stay what they were.

    The order of the colours goes into the weights of the first convolution. In a graph whose first convolution is
    int8, on an input that spans 0 to 1, the picture *is* the quantised input.

    Args:
        model: a static graph with one input (B, 3, H, W): red, green and blue from 0 to 1.

    Raises:
        ValueError: the input is another one, or something else than a convolution takes it.
    """
    graph = model.graph
    given = graph.input[0]
    batch, channels, height, width = (one.dim_value for one in given.type.tensor_type.shape.dim)
    if channels != 3 or not (batch and height and width):
        raise ValueError(f"the input is ({batch}, {channels}, {height}, {width}); expected static pictures in colour")
    producer = {output: node for node in graph.node for output in node.output}
    convolution = first_convolution(model)
    between = _between(producer, convolution.input[0], given.name)
    kinds = [node.op_type for node in between]
    first = [helper.make_node("Transpose", [_PICTURE], [_PLANES], name="/planes", perm=[0, 3, 1, 2])]
    if kinds == ["QuantizeLinear", "DequantizeLinear"]:
        between[1].input[0] = _PLANES
        graph.node.remove(between[0])
    elif kinds in ([], ["Cast"]):  # the cast is a half-precision graph's
        graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), _LEVELS))
        first.append(helper.make_node("Cast", [_PLANES], [_FLOAT], name="/float", to=TensorProto.FLOAT))
        # Not folded into the weights: of half precision they would lose digits, and it is one pass over one picture.
        first.append(helper.make_node("Div", [_FLOAT, _LEVELS], [_UNIT], name="/unit"))
        (between[0] if between else convolution).input[0] = _UNIT
    else:
        raise ValueError(f"between input and first convolution there is {', '.join(kinds)}")
    _turn_colours(graph, producer, convolution)
    _begin_with(graph, first, helper.make_tensor_value_info(_PICTURE, TensorProto.UINT8, [batch, height, width, 3]))


def _between(producer: dict[str, onnx.NodeProto], name: str, start: str) -> list[onnx.NodeProto]:
    """Return the nodes from the graph's input to a tensor, in order."""
    chain: list[onnx.NodeProto] = []
    while name != start:
        chain.insert(0, producer[name])
        name = chain[0].input[0]
    return chain


def _turn_colours(graph: onnx.GraphProto, producer: dict[str, onnx.NodeProto], convolution: onnx.NodeProto) -> None:
    """Turn the order of a convolution's input channels round."""
    name = convolution.input[1]
    while name in producer:  # quantised weights are dequantised first
        name = producer[name].input[0]
    held = next(one for one in graph.initializer if one.name == name)
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(held)[:, ::-1]), name))


def take_floats(model: onnx.ModelProto) -> None:
    """Undo `take_pictures` from outside, in place: floats come in and are turned into a picture first.

    For programs that know the usual form only, such as the host's evaluator. Levels n / 255 come back as n exactly.

    Args:
        model: a graph that takes (B, H, W, 3) uint8, blue-green-red.
    """
    graph = model.graph
    given = graph.input[0]
    batch, height, width, _ = (one.dim_value for one in given.type.tensor_type.shape.dim)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(255, np.float32), "image_levels"),
            numpy_helper.from_array(np.array([2, 1, 0], np.int64), "turned"),
        ]
    )
    first = [
        helper.make_node("Gather", ["images", "turned"], ["images_bgr"], name="/to_picture/bgr", axis=1),
        helper.make_node("Mul", ["images_bgr", "image_levels"], ["images_levels"], name="/to_picture/levels"),
        helper.make_node("Round", ["images_levels"], ["images_whole"], name="/to_picture/whole"),
        helper.make_node("Cast", ["images_whole"], ["images_bytes"], name="/to_picture/bytes", to=TensorProto.UINT8),
        helper.make_node("Transpose", ["images_bytes"], [given.name], name="/to_picture/last", perm=[0, 2, 3, 1]),
    ]
    _begin_with(graph, first, helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width]))


def _begin_with(graph: onnx.GraphProto, first: Sequence[onnx.NodeProto], given: onnx.ValueInfoProto) -> None:
    """Put nodes before all others, in place, and change the input to what they take."""
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input[0].CopyFrom(given)
