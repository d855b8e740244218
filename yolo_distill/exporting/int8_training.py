"""An int8 file trained to answer like the fp32 file that it is made of.

Weights and activations are rounded as the file rounds them, gradients pass through the rounding, and the steps between
two levels are learned (Esser et al., Learned Step Size Quantization, arXiv 1902.08153). The teacher is the same graph
without rounding: no labels are needed, and nothing else than the rounding is trained away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo_distill.data.samples import random_state_kept
from yolo_distill.durations import duration
from yolo_distill.exporting.torch_graph import TorchGraph
from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.graphs.structure import all_anchors, decode_tail, tail_inputs
from yolo_distill.runtime.postprocess import Postprocess

#: Optimizer steps. On BCCD they take a fifth to a third of the error in boxes and scores away.
STEPS = 300
_WEIGHTS_LR = 3e-4  # of the mean weight of a layer, in a step of Adam
_SCALES_LR = 1e-2  # of the logarithm of a scale
_BATCH, _PIXELS = 16, 16 * 192 * 192  # the most pictures of a step, and about how many pixels they have
_LINES = 10  # steps from one line of progress to the next
_SURE = 0.01  # anchors below are background to both


def train_int8(
    quantiser: Quantiser,
    file: Path,
    pictures: Sequence[npt.NDArray[np.uint8]],
    means: Postprocess,
    progress: Callable[[str], None],
) -> None:
    """Train the weights and ranges of a quantiser, which then writes better files.

    Args:
        quantiser: of the fp32 graph.
        file: an int8 file that it wrote: says what is rounded, and where.
        pictures: to train on, each (C, H, W) uint8, as the network sees them; they are mirrored as well.
        means: what the file's answers mean.
        progress: called with how far it is.

    Raises:
        DistillError: the graph has an operator that cannot be trained here.
    """
    right = TorchGraph(quantiser.model)
    rounded = _Rounded(TorchGraph(onnx.load(str(file))), right)
    end, ends = all_anchors(quantiser.model), tail_inputs(quantiser.model, decode_tail(quantiser.model))
    optimizer = torch.optim.Adam(rounded.groups())
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 10) * (1 + math.cos(math.pi * step / STEPS)) / 2
    )
    count = min(_BATCH, max(2, _PIXELS // math.prod(pictures[0].shape[1:])), len(pictures))
    started = time.perf_counter()
    with random_state_kept(), torch.enable_grad():
        torch.manual_seed(0)
        for step in range(STEPS):
            chosen = torch.randint(len(pictures), (count,)).tolist()
            batch = torch.from_numpy(np.stack([pictures[at] for at in chosen])).float() / 255
            batch = batch.flip([axis for axis in (2, 3) if torch.rand(()) < 0.5])
            with torch.no_grad():
                wanted = right(batch, [end, *ends], {}, {})
            loss = _distance(rounded(batch, [end, *ends]), wanted, end, ends, means)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            if step == 0 or (step + 1) % _LINES == 0:  # in a log each is a line
                left = (time.perf_counter() - started) / (step + 1) * (STEPS - step - 1)
                progress(f"training the int8 file: step {step + 1}/{STEPS}, about {duration(left)} left")
    quantiser.take(*rounded.learned())


class _Rounded:
    """The quantised graph with weights and scales that can be trained."""

    def __init__(self, graph: TorchGraph, right: TorchGraph) -> None:
        """Find what is rounded.

        Args:
            graph: of an int8 file.
            right: the graph that the file was made of, with its weights in float.
        """
        self._graph = graph
        self._weights: dict[str, nn.Parameter] = {}
        self._made: dict[str, tuple[str, int | None]] = {}  # tensor of the graph to its weight and the channels' axis
        self._scales: dict[str, tuple[nn.Parameter, float, int]] = {}
        # 256 levels of a picture are what they are, and those of a Softmax ONNX Runtime's.
        fixed = {graph.input, *(node.output[0] for node in graph.nodes if node.op_type == "Softmax")}
        for node in graph.nodes:
            if node.op_type == "DequantizeLinear" and node.input[0] in graph.constants:
                name = node.input[0].removesuffix("_quantized")
                self._weights[name] = nn.Parameter(right.constants[name].clone())
                # A bias has 32 bits, whose rounding is nothing.
                eight = graph.constants[node.input[0]].dtype == torch.int8
                axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
                self._made[node.output[0]] = (name, axis if eight else None)
            elif node.op_type == "QuantizeLinear":
                scale, zero = (graph.constants[name] for name in node.input[1:])
                change = nn.Parameter(torch.zeros(()), node.input[0] not in fixed)
                self._scales[node.input[1]] = (change, float(scale), int(zero))

    def __call__(self, pictures: Tensor, wanted: Collection[str]) -> dict[str, Any]:
        given = {made: self._weight(name, axis) for made, (name, axis) in self._made.items()}
        own = {"QuantizeLinear": self._quantise, "DequantizeLinear": lambda _, __, x, *___: x}
        return self._graph(pictures, wanted, given, own)

    def groups(self) -> list[dict[str, Any]]:
        """Return what an optimizer takes: each weight by its own size, and the scales."""
        groups = [{"params": [one], "lr": _WEIGHTS_LR * one.abs().mean().item()} for one in self._weights.values()]
        scales = [one for one, *_ in self._scales.values() if one.requires_grad]
        return [*groups, {"params": scales, "lr": _SCALES_LR}]

    def learned(self) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, tuple[float, float]]]:
        """Return the weights, and the range of each tensor."""
        weights = {name: one.detach().numpy() for name, one in self._weights.items()}
        ranges = {}
        for name, (change, before, zero) in self._scales.items():
            scale = before * math.exp(change.item())
            ranges[name.removesuffix("_scale")] = (-zero * scale, (255 - zero) * scale)
        return weights, ranges

    def _weight(self, name: str, axis: int | None) -> Tensor:
        weight = self._weights[name]
        if axis is None:
            return weight
        others = [side for side in range(weight.dim()) if side != axis]
        scale = weight.detach().abs().amax(others, keepdim=True).clamp_min(1e-12) / 127
        return _round(weight / scale) * scale

    def _quantise(self, node: Any, _: Mapping[str, Any], x: Tensor, *__: Tensor) -> Tensor:
        change, before, zero = self._scales[node.input[1]]
        scale = before * change.exp()
        return _round(x / scale).clamp(-zero, 255 - zero) * scale


def _round(x: Tensor) -> Tensor:
    """Round, with the gradient of doing nothing."""
    return x + (x.round() - x).detach()


def _distance(
    values: Mapping[str, Tensor], wanted: Mapping[str, Tensor], end: str, ends: Sequence[str], means: Postprocess
) -> Tensor:
    """Return how far answers are from the right ones.

    That is the divergence of scores, boxes in parts of their size and a task's own numbers in parts of their spread,
    each weighed by how sure either is that something is there; and what is decoded in parts of its variance.
    """
    rows, right = values[end], wanted[end]
    last = 4 + len(means.names)
    scores, true = rows[:, 4:last].clamp(1e-6, 1 - 1e-6), right[:, 4:last].clamp(1e-6, 1 - 1e-6)
    weight = torch.maximum(scores.detach().amax(1), true.amax(1))
    weight = weight * (weight > _SURE)
    score = (
        F.binary_cross_entropy(scores, true, reduction="none") - F.binary_cross_entropy(true, true, reduction="none")
    ).sum(1)
    corners = means.end2end and means.task != "obb"
    size = (right[:, 2:4] - right[:, :2] if corners else right[:, 2:4]).clamp_min(1).mean(1)
    gap = 4 * (rows[:, :4] - right[:, :4]).abs().mean(1) / size
    if rows.shape[1] > last:
        spread = right[:, last:].std((0, 2), keepdim=True).clamp_min(1e-6)
        gap = gap + ((rows[:, last:] - right[:, last:]).abs() / spread).mean(1)
    decoded = sum(
        (F.mse_loss(values[name], wanted[name]) / wanted[name].var().clamp_min(1e-6) for name in ends),
        score.new_zeros(()),
    )
    return (score.sum() + (weight * gap).sum()) / weight.sum().clamp_min(1) + decoded / len(ends)
