"""Class distillation by softmax: which class, among those there are, the teacher takes an anchor for.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, section 2.

    KL_i = KL(softmax(z_t[i] / tau) || softmax(z_s[i] / tau)) * tau^2
    L    = sum_i w_i KL_i / N_t        w_i = max_c sigmoid(z_t[i, c])        N_t = max(1, sum_i w_i)

Legend: A anchors, C classes; z logits, s / t student / teacher; i runs over the anchors that are taught. The factor
tau^2 keeps the gradient of one size when tau changes.

A softmax knows the order of the classes and nothing of whether there is an object at all: adding the same to all logits
of an anchor changes nothing. With one class it is exactly 0. Whether and which together is the matter of `logit.py`.

Departures from the paper: it classifies pictures, each counting the same. Here most anchors hold nothing, and the
proportions of classes there are noise, so an anchor counts by how sure the teacher is of anything, and the sum is
divided by that confidence as that of `logit.py` is: less than one object's worth counts as little as it is.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from yolo_distill.losses.devices import average_over_devices
from yolo_distill.losses.logit import confidence


def hinton_loss(student: Tensor, teacher: Tensor, weight: Tensor | None = None, tau: float = 2.0) -> Tensor:
    """Return the KL divergence of softened class distributions, weighted by the teacher's confidence.

    Args:
        student: logits, shape (..., C), usually (N, C) of the anchors that are taught.
        teacher: logits, same shape, of any precision; no gradient reaches it.
        weight: of each anchor beside the confidence, shape (...), 0 where it is not taught; 1 everywhere when None.
        tau: temperature, above 0; larger shows more of the classes that are not the best.

    Returns:
        scalar, at least 0; 0 when the logits of each anchor are equal up to a constant, C is 1 or nothing is taught.
    """
    teacher = teacher.detach().float()
    target = F.log_softmax(teacher / tau, -1)
    divergence = F.kl_div(F.log_softmax(student / tau, -1), target, reduction="none", log_target=True).sum(-1)
    sure = confidence(teacher)
    if weight is not None:
        sure = sure * weight
    return tau**2 * (divergence * sure).sum() / average_over_devices(sure.sum()).clamp(min=1.0)
