"""What the channels of a detector are worth, by its weights alone or by what its loss would miss.

Both return, by path of a convolution that has a batch norm behind it, one number >= 0 for each of its channels. Sums of
them over channels that can only be left out together are what `channel_selection` compares.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.calibration_batches import Batch


def norm_scores(model: DetectionModel) -> dict[str, Tensor]:
    """Return the L2 norms of each channel's filter, as the batch norm behind it scales it.

    |gamma| / sigma * ||w||, which is the filter's norm once both are one convolution, so that it does not matter how
    the two share the scale. By mean over the layer, as layers are summed where channels meet. Sources: filter norms (Li
    et al., ICLR 2017, arXiv 1608.08710), |gamma| (network slimming, ICCV 2017, arXiv 1708.06519), sums over groups
    (DepGraph, CVPR 2023, arXiv 2301.12900).

    Returns:
        tensors of shape (channels,), each of mean 1.
    """
    scores = {}
    for path, convolution, norm in _normed_convolutions(model):
        assert norm.running_var is not None
        scale = norm.weight.detach().abs() / (norm.running_var + norm.eps) ** 0.5
        score = convolution.weight.detach().flatten(1).norm(dim=1) * scale
        scores[path] = (score / score.mean().clamp_min(torch.finfo(score.dtype).tiny)).cpu()
    return scores


def importance_scores(model: DetectionModel, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Return how much the host's loss would change without each channel, to first order.

    A gate z = 1 behind the batch norm has the gradient dL/dz = gamma * dL/dgamma + beta * dL/dbeta; closing it changes
    the loss by its absolute value, of which the mean over the batches is taken. Source: Molchanov et al., "Importance
    Estimation for Neural Network Pruning", CVPR 2019, arXiv 1906.10771 (there the square, which ranks the same within
    one batch). Batch norms use their running statistics, as the trained model does.

    Args:
        model: a trained detector; it stays as it is.
        batches: from `labelled_batches`, for the classes of this model.

    Returns:
        tensors of shape (channels,).
    """
    probe = copy.deepcopy(model).eval().requires_grad_(True)
    probe.args = get_cfg()  # what a checkpoint holds there has no attributes
    probe.criterion = None
    device = next(probe.parameters()).device
    layers = list(_normed_convolutions(probe))
    scores = {path: torch.zeros(convolution.out_channels) for path, convolution, _ in layers}
    count = 0
    for batch in batches:
        probe.zero_grad(set_to_none=True)
        loss, _ = probe.loss({key: value.to(device) for key, value in batch.items()})
        loss.sum().backward()
        for path, _, norm in layers:
            if norm.weight.grad is not None and norm.bias.grad is not None:
                gate = norm.weight.detach() * norm.weight.grad + norm.bias.detach() * norm.bias.grad
                scores[path] += gate.abs().cpu()
        count += 1
    return {path: score / max(count, 1) for path, score in scores.items()}


def _normed_convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Yield the host's pairs of a convolution and the batch norm behind it, by path of the convolution."""
    for path, module in model.named_modules():
        convolution, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            yield f"{path}.conv", convolution, norm
