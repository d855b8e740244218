"""Channel-wise distillation of feature maps.

Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction" (CWD), ICCV 2021, arXiv 2011.13256,
eq. 4.

    phi(y)[c, i] = softmax_i(y[c, i] / tau)
    L = tau^2 / (B C) * sum_{b,c} KL(phi(y_t[b, c]) || phi(y_s[b, c]))

Legend: B pictures, C the teacher's channels, i over the H * W places of one map. The student's map comes here already
projected to the teacher's channels.

Departure from the paper: both sides are standardised per channel over the batch first (as PKD does, arXiv 2207.02039),
so that tau means the same for maps of any scale.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from yolo_distill.losses.pkd import standardise


def cwd_loss(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return the channel-wise KL divergence of two feature maps.

    Args:
        student: shape (B, C, H, W).
        teacher: same shape; no gradient reaches it.
        tau: temperature, above 0; smaller looks at the peaks alone.

    Returns:
        scalar, at least 0; 0 when the maps are equal up to scale and shift of each channel.
    """
    batch, channels = teacher.shape[:2]
    student = standardise(student).flatten(2)
    teacher = standardise(teacher.detach()).flatten(2)
    divergence = F.kl_div(
        F.log_softmax(student / tau, -1), F.log_softmax(teacher / tau, -1), reduction="sum", log_target=True
    )
    return divergence * tau**2 / max(batch * channels, 1)
