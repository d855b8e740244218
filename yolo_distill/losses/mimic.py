"""Feature distillation by squared distance, of all places alike or by how sure the teacher is there.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550, eq. 3. The weighted form is the
loss of Ultralytics' own distillation (`distill_model=`, 8.4): for maps of one level

    L = sum_{b,i} (y_s[b, :, i] - y_t[b, :, i])^2 / (B H W C)                                             without weight
    L = sum_{b,i} w[b, i] (y_s[b, :, i] - y_t[b, :, i])^2 / (C sum_{b,i} w[b, i]) * min(1, N)                with weight

    N = sum of all w[b, i] above `NOTHING`

Legend: B pictures, C the teacher's channels, i over the H * W places of one map; w the teacher's best class score at a
place. The student's map comes here already projected to the teacher's channels.

Departures:
- FitNets has half the sum where this takes the mean, so that a gain means the same for any size of map.
- Ultralytics does not have the factor min(1, N). Divided by its own sum of next to nothing, a level on which the
  teacher sees nothing counts in full there, and the student learns that level's background as eagerly as the objects of
  the others. Here less than one object's worth of confidence counts as little as it is, as in the other losses. Where
  the teacher is sure of one object on the level the factor is 1, and the number is Ultralytics' own.
- Over several devices both sums are averaged (see `devices.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolo_distill.losses.devices import average_over_devices
from yolo_distill.losses.logit import NOTHING


def mimic_loss(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared difference of two feature maps.

    Args:
        student: shape (B, C, H, W).
        teacher: same shape; no gradient reaches it.
        weight: the teacher's best class score at each place, shape (B, H, W), 0..1; all places alike when None.

    Returns:
        scalar, at least 0; 0 when the maps are equal, or the weight is above `NOTHING` nowhere.
    """
    error = (student - teacher.detach()).square()
    if weight is None:
        return error.sum() / max(error.numel(), 1)
    weight = weight.detach()
    # Both sums at once: over several devices each of them is a message that all wait for.
    mass, sure = average_over_devices(torch.stack([weight.sum(), (weight * (weight > NOTHING)).sum()]))
    least = torch.finfo(mass.dtype).tiny
    return (error.mean(1) * weight).sum() / mass.clamp(min=least) * sure.clamp(max=1.0)
