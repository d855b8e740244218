"""Batch-norm statistics of a model whose weights came from elsewhere, estimated anew on pictures.

A selected convolution sums over fewer channels than the teacher's did, so the statistics of the teacher's do not fit.

Source: "precise batch norm" in Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv 2105.07576, section 3:
the moments of all pictures, rather than a moving average over the latest batches:

    mu = E[mu_B],   sigma^2 = E[mu_B^2 + sigma_B^2] - mu^2

with mu_B and sigma_B of batches that are normalised by their own moments, as in training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def estimate_batch_norm(model: nn.Module, pictures: Tensor, batch: int = 16) -> None:
    """Set the running statistics of all batch norms of `model` to those of `pictures`.

    Weights, modes and momenta stay as they are, and so does the global random state.

    Args:
        model: on any device.
        pictures: shape (N, C, H, W), on any device.
        batch: pictures a forward pass at most; the passes are of (nearly) equal size.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    sums: dict[nn.BatchNorm2d, Tensor] = {}
    modes = {module: module.training for module in model.modules()}
    counts = {norm: norm.num_batches_tracked.clone() for norm in norms if norm.num_batches_tracked is not None}
    hooks = [norm.register_forward_pre_hook(_collector(sums)) for norm in norms]
    first = next(model.parameters())
    try:
        model.train()
        for part in pictures.tensor_split(-(-len(pictures) // batch)):
            model(part.to(first))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    for norm, (mean, square) in ((norm, total[1:] / total[0]) for norm, total in sums.items()):
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.copy_(mean)
            norm.running_var.copy_((square - mean**2).clamp_min(0))
    for norm, count in counts.items():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.copy_(count)


def _collector(sums: dict[nn.BatchNorm2d, Tensor]) -> Any:
    """Return a hook that sums ones, means and mean squares over pictures, shape (3, channels), in double precision."""

    def collect(norm: nn.BatchNorm2d, args: tuple[Tensor, ...]) -> None:
        value = args[0].double()
        mean = value.mean((0, 2, 3))
        moments = len(value) * torch.stack([torch.ones_like(mean), mean, value.square().mean((0, 2, 3))])
        sums[norm] = sums[norm] + moments if norm in sums else moments

    return collect
