"""Which layers of a network suffer most from 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from yolo_distill.graphs.quantise import Floats, Quantiser
from yolo_distill.graphs.structure import layers
from yolo_distill.session_options import EXACT_INT8

_SURE = 0.05  # anchors below are background to both files


def rank_layers(
    quantiser: Quantiser,
    inputs: Sequence[Floats],
    always: Sequence[str],
    folder: Path,
    progress: Callable[[str], None],
) -> list[tuple[str, list[str]]]:
    """Return the layers, the one whose 8 bits cost most first.

    Each layer in turn is left in fp32 and the answers are compared with those of the fp32 graph: what gets better is
    what the layer's quantisation costs. Errors of layers add up only roughly; it is an order to try them in.

    Args:
        quantiser: ranges and graph.
        inputs: a few inputs of the network, (1, C, H, W).
        always: nodes that stay in float anyway.
        folder: for temporary files.
        progress: called with how far it is.

    Returns:
        name of the layer and its nodes; those that cost nothing are left out.
    """
    groups = {name: nodes for name, nodes in layers(quantiser.model, always).items() if _has_weights(quantiser, nodes)}
    right = _answers(quantiser.model.SerializeToString(), inputs)
    attempt = folder / "layer.onnx"

    def error(keep: Sequence[str]) -> float:
        quantiser.write(attempt, keep=[*always, *keep])
        pairs = zip(_answers(attempt.read_bytes(), inputs), right, strict=True)
        return float(np.mean([_distance(answer, wanted) for answer, wanted in pairs]))

    everything = error(())
    gains: dict[str, float] = {}
    for number, (name, nodes) in enumerate(groups.items(), 1):
        gains[name] = everything - error(nodes)
        progress(f"looking for the layers that 8 bits cost most: {number}/{len(groups)}")
    order = sorted((name for name in groups if gains[name] > 0), key=lambda name: -gains[name])
    return [(name, groups[name]) for name in order]


def _has_weights(quantiser: Quantiser, nodes: Sequence[str]) -> bool:
    """Return whether a layer computes anything; resizing and joining in fp32 would only cost conversions."""
    mine = set(nodes)
    return any(node.name in mine and node.op_type in {"Conv", "MatMul"} for node in quantiser.model.graph.node)


def _answers(model: bytes, inputs: Sequence[Floats]) -> list[npt.NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_INT8)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [np.asarray(session.run(None, {name: one})[0][0], np.float64) for one in inputs]


def _distance(answer: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    """Return how far one answer is from the right one: scores, and boxes in parts of their size, where it matters.

    Args:
        answer: (4 + nc, A), or (N, 6) with the best first.
        right: the same from the fp32 graph.
    """
    if right.shape[1] == 6 and right.shape[0] > 6:  # rows are sorted by score and may have changed places
        return float(np.abs(np.sort(answer[:, 4]) - np.sort(right[:, 4])).sum())
    scores, wanted = answer[4:], right[4:]
    weight = np.maximum(scores.max(0), wanted.max(0))
    weight = np.where(weight > _SURE, weight, 0)
    size = np.maximum(right[2:4], 1).mean(0)
    gap = np.abs(scores - wanted).max(0) + np.abs(answer[:4] - right[:4]).mean(0) / size
    return float((weight * gap).sum())
