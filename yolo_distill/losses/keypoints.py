"""Keypoint distillation: where two pose models see the points of the same object, and whether they see them.

    L = sum_n w_n (sum_k v_k (1 - exp(-d_k^2 / (2 s^2 (2 sigma_k)^2))) / max(1, sum_k v_k) + VISIBLE mean_k BCE_k)
        / max(1, sum_n w_n)

Legend: n objects, k keypoints, d the distance of student and teacher in pixels, s^2 the area of the object (0.53 of the
teacher's box, as the host has it), sigma a constant of each keypoint, v how sure the teacher is that the point can be
seen, BCE that of the student's visibility logit with it, w the teacher's confidence. Source: object keypoint similarity
of the COCO keypoint challenge, as a loss in Maji et al., "YOLO-Pose", CVPRW 2022, arXiv 2204.06806, eq. 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from ultralytics.utils.metrics import OKS_SIGMA

from yolo_distill.losses.localization import weighted_mean

#: Share of visibility beside the distances, as in the host's own gains (kobj 1 beside pose 12).
VISIBLE = 1 / 12
_OF_BOX = 0.53


def keypoint_loss(
    student: Tensor, teacher: Tensor, boxes: Tensor, weight: Tensor, sigmas: Sequence[float] | None = None
) -> Tensor:
    """Return the loss of the keypoints of some objects.

    Args:
        student: x and y in pixels from any one origin, and the visibility logit where there is one, shape
            (B, N, K, 2 or 3).
        teacher: the same of the teacher; no gradient reaches it.
        boxes: the teacher's, xyxy in pixels, shape (B, N, 4).
        weight: the teacher's confidence, shape (B, N).
        sigmas: of each keypoint, as the data has them; None or none: COCO's for its 17, and the host's for any others.

    Returns:
        scalar, at least 0; 0 where no object has any weight.
    """
    teacher = teacher.detach()
    distance = (student[..., :2] - teacher[..., :2]).square().sum(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).detach().clamp(min=1).prod(-1)[..., None] * _OF_BOX
    sigma = distance.new_tensor(sigmas or _sigmas(student.shape[-2]))
    off = 1 - torch.exp(-distance / (2 * area * (2 * sigma) ** 2))
    if student.shape[-1] == 2:
        return weighted_mean(off.mean(-1), weight)
    seen = teacher[..., 2].sigmoid()
    loss = (seen * off).sum(-1) / seen.sum(-1).clamp(min=1)
    unsure = F.binary_cross_entropy_with_logits(student[..., 2], seen, reduction="none").mean(-1)
    return weighted_mean(loss + VISIBLE * unsure, weight)


def _sigmas(keypoints: int) -> Sequence[float]:
    """Return COCO's constants for a body's 17 keypoints, and the host's for any others."""
    return OKS_SIGMA.tolist() if keypoints == len(OKS_SIGMA) else [1 / keypoints] * keypoints
