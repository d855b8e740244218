"""Masked generative distillation: the student's map has to hold enough to regenerate the teacher's from parts of it.

Source: Yang et al., "Masked Generative Distillation" (MGD), ECCV 2022, arXiv 2205.01529, section 3.

    G(y) = conv3x3(ReLU(conv3x3(y)))
    L    = 1 / (B C H W) * sum_{b,c,i} (y_t[b, c, i] - G(M * align(y_s))[b, c, i])^2
    M[b, i] = 0 where R[b, i] < share, else 1        R uniform in 0..1

Legend: B pictures, C the teacher's channels, i over the H * W places of one map; align a 1x1 convolution from the
student's to the teacher's channels; M one mask for all channels, R drawn anew for every map and batch.

What is hidden is drawn from a random state that belongs to the term: the global one decides which pictures come next
and how they are augmented, and a run must see the same with this term as without it.

Departures from the paper: a mean in place of the sum over a picture's places and channels, so that a gain means the
same for any size of map; align has no bias, and is there also where both sides have equally many channels, whose order
means nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Regenerates a teacher's map from what is left of a student's: align, hide, convolve twice.

    Args:
        student: channels of the student's map.
        teacher: channels of the teacher's.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(student, teacher, 1, bias=False)
        self.generate = nn.Sequential(
            nn.Conv2d(teacher, teacher, 3, padding=1), nn.ReLU(), nn.Conv2d(teacher, teacher, 3, padding=1)
        )

    def forward(self, maps: Tensor, hidden: Tensor) -> Tensor:
        """Return the regenerated map, shape (B, teacher, H, W).

        Args:
            maps: the student's, shape (B, student, H, W).
            hidden: places of which the generator sees nothing, bool, shape (B, 1, H, W).
        """
        regenerated: Tensor = self.generate(self.align(maps).masked_fill(hidden, 0.0))
        return regenerated


def mgd_loss(regenerated: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the regenerated map and the teacher's, at all places.

    Args:
        regenerated: by a `Generator` that learns with the student, from what is left of its map; shape (B, C, H, W).
        teacher: same shape; no gradient reaches it.

    Returns:
        scalar, at least 0; 0 when the teacher's map is regenerated as it is.
    """
    error = (regenerated - teacher.detach()).square()
    return error.sum() / max(error.numel(), 1)


def hide_places(maps: Tensor, share: float, seed: int) -> Tensor:
    """Return which places of each map are hidden, bool, shape (B, 1, H, W), on the device of the maps.

    Args:
        maps: shape (B, C, H, W).
        share: of the places that are hidden, 0..1.
        seed: the same seed hides the same places; no other random state is read or changed.
    """
    own = torch.Generator(device=maps.device).manual_seed(seed)
    return torch.rand(len(maps), 1, *maps.shape[2:], generator=own, device=maps.device) < share
