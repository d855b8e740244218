"""Class distillation for sigmoid classifiers: weighted binary cross-entropy against the teacher's probabilities.

Source: Yang et al., "Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection" (BCKD),
ICCV 2023, arXiv 2308.14286, eq. 6; the weight is that of the quality focal loss (Li et al., "Generalized Focal Loss",
NeurIPS 2020, arXiv 2006.04388, eq. 2).

    L = sum_{i,c} |p_t - p_s|^gamma * BCE(p_s, p_t) / N        N = max(1, sum_i max_c max(p_t[i, c], p_s[i, c]))

Legend: B pictures, A anchors, C classes; z logits, p = sigmoid(z); i runs over the anchors that are taught.

A YOLO head scores every class with its own sigmoid, so the softmax KL of Hinton et al. does not fit it (it is exactly
zero with one class; see `hinton.py`). Without the weight |p_t - p_s|^gamma the loss is dominated by background:
thousands of anchors times all classes of almost nothing.

gamma = 1 is BCKD. gamma = 2 is the quality focal loss at its own beta of 2, with the teacher's probability in the place
of the quality: the sum is the same number, and only what it is divided by differs.

Departures from both papers:
- Normalised by the mass of what either side sees instead of the number of positives, as the task's own loss is by its
  target scores, so that the two keep their proportion from picture to picture. By the teacher's mass alone, the term
  would be the louder the less its teacher sees: anchors where only the student sees something are in the sum.
- Anchors at which neither side sees anything (all p below `NOTHING`) are left out: together they weigh next to nothing,
  and they are most.
- The weight carries no gradient; in the code of both it does. BCE against a soft target is not 0 where both agree, but
  the teacher's entropy, and through the weight the student would be drawn to the teacher by that as well: most where
  the teacher is least sure.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo_distill.losses.devices import average_over_devices

#: Probability below which nobody claims to see anything. Two sides below it differ by less than this, and the gradient
#: of such an anchor is below its square.
NOTHING = 0.01


def logit_loss(student: Tensor, teacher: Tensor, weight: Tensor | None = None, gamma: float = 1.0) -> Tensor:
    """Return the weighted binary cross-entropy between student and teacher class probabilities.

    Args:
        student: logits, shape (..., C), usually (N, C) of the anchors that are taught.
        teacher: logits, same shape; no gradient reaches it.
        weight: of each anchor, shape (...), 0 where it is not taught; 1 everywhere when None.
        gamma: focusing exponent; 0 gives plain binary cross-entropy.

    Returns:
        scalar, at least 0; 0 when both sides are equal (gamma above 0) or nothing is taught.
    """
    target = teacher.detach().sigmoid()
    # The weight says where to look, not what to learn: it carries no gradient.
    focus = (target - student.detach().sigmoid()).abs().pow(gamma)
    loss = F.binary_cross_entropy_with_logits(student, target, weight=focus, reduction="none").sum(-1)
    seen = torch.maximum(target, student.detach().sigmoid())
    mass = seen.amax(-1) if target.shape[-1] else target.new_zeros(target.shape[:-1])
    if weight is not None:
        loss, mass = loss * weight, mass * weight
    return loss.sum() / average_over_devices(mass.sum()).clamp(min=1.0)


def confidence(teacher: Tensor) -> Tensor:
    """Return w_i = max_c sigmoid(z_t[i, c]), how sure the teacher is of anything at each anchor, shape (B, A)."""
    if not teacher.shape[-1]:
        return teacher.new_zeros(teacher.shape[:-1])
    return torch.sigmoid(teacher.detach().amax(-1))


def worth_teaching(student: Tensor, teacher: Tensor, gamma: float = 1.0) -> Tensor:
    """Return at which anchors one of both sides sees something, from logits (..., C) to bool (...).

    With a gamma below 1, background weighs more than next to nothing: all anchors then.
    """
    if gamma < 1:
        return torch.ones(student.shape[:-1], dtype=torch.bool, device=student.device)
    least = math.log(NOTHING / (1 - NOTHING))
    return torch.maximum(student.detach().amax(-1), teacher.detach().amax(-1)) > least
