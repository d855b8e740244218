"""Feature maps on one scale, so that losses compare their patterns and not their sizes."""

from __future__ import annotations

from torch import Tensor


def standardise(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Return maps of shape (B, C, H, W) with mean 0 and variance 1 of each channel over the batch.

    Args:
        maps: feature maps.
        eps: added to the variance; a constant channel becomes 0, with a finite gradient.
    """
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    return centred * (centred.square().mean((0, 2, 3), keepdim=True) + eps).rsqrt()
