"""Which layers of a network suffer most from 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from yolo_distill.exporting.task_parity import rows_of
from yolo_distill.graphs.quantise import Floats, Quantiser
from yolo_distill.graphs.structure import layers
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.postprocess import Postprocess, Raw

_SURE = 0.05  # anchors below are background to both files


def rank_layers(
    file: Path,
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
        file: the fp32 file.
        quantiser: ranges and graph.
        inputs: a few inputs of the network, (1, C, H, W).
        always: nodes that stay in float anyway.
        folder: for temporary files.
        progress: called with how far it is.

    Returns:
        name of the layer and its nodes; those that cost nothing are left out.
    """
    groups = {name: nodes for name, nodes in layers(quantiser.model, always).items() if _has_weights(quantiser, nodes)}
    attempt = folder / "layer.onnx"
    detector = Detector(file, providers="cpu")
    right = [detector.infer(one) for one in inputs]

    def error(keep: Sequence[str]) -> float:
        quantiser.write(attempt, keep=[*always, *keep])
        tried = Detector(attempt, providers="cpu")
        pairs = zip(map(tried.infer, inputs), right, strict=True)
        return float(np.mean([_distance(answer, wanted, detector.meaning) for answer, wanted in pairs]))

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


def _distance(answer: Raw, right: Raw, means: Postprocess) -> float:
    """Return how far the answer for one picture is from the right one, where it matters.

    That is scores, boxes in parts of their size, and of a task's own numbers what is furthest off, in parts of the
    largest; of rows that are sorted by score, and may have changed places, scores alone.
    """
    rows, wanted = (rows_of(one)[0].astype(np.float64) for one in (answer, right))
    if means.end2end:
        return float(np.abs(np.sort(rows[:, 4]) - np.sort(wanted[:, 4])).sum())
    end = 4 + len(means.names)
    weight = np.maximum(rows[4:end].max(0), wanted[4:end].max(0))
    weight = np.where(weight > _SURE, weight, 0)
    size = np.maximum(wanted[2:4], 1).mean(0)
    apart = np.abs(rows - wanted)
    gap = apart[4:end].max(0) + apart[:4].mean(0) / size
    gap += apart[end:].max(0, initial=0) / np.abs(wanted[end:]).max(initial=1)
    if isinstance(answer, tuple) and isinstance(right, tuple):
        gap += np.abs(answer[1] - right[1]).mean() / np.abs(right[1]).max(initial=1)
    return float((weight * gap).sum())
