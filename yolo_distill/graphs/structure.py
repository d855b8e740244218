"""Where a detector's graph can be taken apart: the tail that decodes, and the layers before it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import onnx

_LAYER = re.compile(r"^/model\.(\d+)/(?:((?:one2one_)?cv[234])\.(\d)/)?")


def decode_tail(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes behind the head's last convolutions.

    They turn distances and logits into boxes in pixels and scores. The one convolution among them is the host's way to
    write the mean of a distribution (DFL), with the numbers 0 to `reg_max` - 1 as its weights.

    Args:
        model: the graph, every node with a name.
    """
    return _back_to_convolutions(model, [output.name for output in model.graph.output])


def last_layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of the last convolutions of boxes and scores, and of the activations before them.

    Args:
        model: the graph, every node with a name; its first output holds boxes and scores.
    """
    producer = {output: node for node in model.graph.node for output in node.output}
    last = [producer[name] for name in tail_inputs(model, _back_to_convolutions(model, [model.graph.output[0].name]))]
    before = _back_to_convolutions(model, [name for node in last for name in node.input])
    return [*(node.name for node in last), *before]


def tail_inputs(model: onnx.ModelProto, tail: Collection[str]) -> list[str]:
    """Return the tensors that a tail, by its nodes' names, takes from the graph before it, each once."""
    names = set(tail)
    made = {output for node in model.graph.node if node.name not in names for output in node.output}
    taken = (name for node in model.graph.node if node.name in names for name in node.input)
    return list(dict.fromkeys(name for name in taken if name in made))


def all_anchors(model: onnx.ModelProto) -> str:
    """Return the tensor that holds box and scores of every anchor, a column each; a one-to-one branch then sorts."""
    nodes = list(model.graph.node)
    sorts = next((at for at, node in enumerate(nodes) if node.op_type == "TopK"), None)
    if sorts is None:
        return str(model.graph.output[0].name)
    return str(next(node.input[0] for node in reversed(nodes[:sorts]) if node.op_type == "Transpose"))


def _back_to_convolutions(model: onnx.ModelProto, tensors: Iterable[str]) -> list[str]:
    """Return the names of the nodes that make the tensors out of what convolutions give."""
    producer = {output: node for node in model.graph.node for output in node.output}
    pending, found = list(tensors), dict[str, None]()
    while pending:
        node = producer.get(pending.pop())
        if node is None or node.name in found or (node.op_type == "Conv" and "/dfl/" not in node.name):
            continue
        found[node.name] = None
        pending.extend(node.input)
    return list(found)


def layers(model: onnx.ModelProto, without: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the nodes by layer of the network, in the order of the graph.

    Args:
        model: a graph that the host traced, whose node names tell the module: `/model.5/conv/Conv`.
        without: nodes to leave out.

    Returns:
        `model.5` to its nodes; of the head each branch of each level apart, as `model.23.cv3.0`.
    """
    left_out = set(without)
    groups: dict[str, list[str]] = {}
    for node in model.graph.node:
        found = _LAYER.match(node.name)
        if not found or node.name in left_out:
            continue
        number, branch, level = found.groups()
        groups.setdefault(f"model.{number}" + (f".{branch}.{level}" if branch else ""), []).append(node.name)
    return groups


def first_convolution(model: onnx.ModelProto) -> onnx.NodeProto:
    """Return the convolution that sees the picture.

    Raises:
        ValueError: the input does not lead to one.
    """
    pending = [model.graph.input[0].name]
    while pending:
        name = pending.pop(0)
        for node in model.graph.node:  # in no order: converters append their casts at the end
            if name in node.input:
                if node.op_type == "Conv":
                    return node
                pending.extend(node.output)
    raise ValueError("the graph has no convolution behind its input")
