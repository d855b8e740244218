"""Where a graph is taken apart."""

from __future__ import annotations

import onnx
import pytest

from yolo_distill.graphs.structure import decode_tail, first_convolution, last_layers, layers


def test_the_tail_begins_behind_the_last_convolutions(traced):
    model = onnx.load(str(traced))
    tail = set(decode_tail(model))
    nodes = {node.name: node for node in model.graph.node}
    made_by = {output: node for node in model.graph.node for output in node.output}
    feeds = {made_by[name].name for one in tail for name in nodes[one].input if name in made_by} - tail
    # Box and class branch of three levels.
    assert len(feeds) == 6
    assert all(nodes[name].op_type == "Conv" and "/cv" in name for name in feeds)
    assert made_by[model.graph.output[0].name].name in tail
    assert {nodes[name].op_type for name in tail} >= {"Sigmoid", "Concat", "Mul"}
    last = last_layers(model)
    assert set(last[:6]) == feeds
    assert {nodes[name].op_type for name in last[6:]} == {"Sigmoid", "Mul"}
    assert len(last) == 6 + 12


def test_every_node_before_the_tail_belongs_to_one_layer(traced):
    model = onnx.load(str(traced))
    tail = decode_tail(model)
    groups = layers(model, tail)
    names = [name for nodes in groups.values() for name in nodes]
    assert sorted(names) == sorted({node.name for node in model.graph.node} - set(tail))
    heads = [name for name in groups if ".cv" in name]
    assert len(heads) == 6
    assert groups["model.0"][0] == first_convolution(model).name == "/model.0/conv/Conv"


def test_a_graph_without_convolution():
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    made = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [given], [made])
    with pytest.raises(ValueError, match="no convolution"):
        first_convolution(onnx.helper.make_model(graph))
