"""Feature distillation by Pearson correlation.

Source: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
NeurIPS 2022, arXiv 2207.02039, section 3.

    L = 1 / (2 B C H W) * sum_{b,c,i} (y_s'[b, c, i] - y_t'[b, c, i])^2        y' = (y - mean_c(y)) / std_c(y)

Legend: B pictures, C the teacher's channels, i over the H * W places of one map; mean and standard deviation are taken
of each channel over the batch. The student's map comes here already projected to the teacher's channels.

With r_c the Pearson correlation of the two sides of a channel, L is the mean of 1 - r_c: between 0 and 2, and blind to
the scale and the shift of every channel.

Departure from the paper: the variance has a small constant beside it, without which a constant channel (a dead one, or
a picture of one colour) would have no finite gradient.
"""

from __future__ import annotations

from torch import Tensor


def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return half the mean squared difference of two standardised feature maps.

    Args:
        student: shape (B, C, H, W).
        teacher: same shape; no gradient reaches it.

    Returns:
        scalar, at least 0; 0 when the maps are equal up to a positive scale and a shift of each channel.
    """
    error = (standardise(student) - standardise(teacher.detach())).square()
    return error.sum() / max(2 * error.numel(), 1)


def standardise(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Return maps of shape (B, C, H, W) with mean 0 and variance 1 of each channel over the batch.

    Args:
        maps: feature maps.
        eps: added to the variance; a constant channel becomes 0, with a finite gradient.
    """
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    return centred * (centred.square().mean((0, 2, 3), keepdim=True) + eps).rsqrt()
