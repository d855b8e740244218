"""Mask distillation: what two segmenters draw for the same object, compared pixel by pixel.

Coefficients cannot be compared: the prototypes of two models span different spaces. What they come to can.

    m_n = c_n P                                                  (mask logits of object n)
    L   = sum_n w_n (BCE(m_s, sigmoid(m_t)) + dice(sigmoid(m_s), sigmoid(m_t))) / max(1, sum_n w_n)
    dice(p, q) = 1 - (2 <p, q> + 1) / (<p, p> + <q, q> + 1)

Legend: c the coefficients of an object, P the prototypes (C, H, W), s student, t teacher, w the teacher's confidence.
All sums are over the pixels inside of the teacher's box, as the host's own mask loss crops. Sources: Bolya et al.,
"YOLACT", ICCV 2019, arXiv 1904.02689, section 3.2 (coefficients and prototypes); Milletari et al., "V-Net", 3DV 2016,
arXiv 1606.04797, eq. 3 (dice).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo_distill.losses.localization import weighted_mean

#: Of some objects of each picture: coefficients (B, N, C) and prototypes (B, C, H, W).
Masks = tuple[Tensor, Tensor]


def mask_loss(student: Masks, teacher: Masks | Tensor, boxes: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the loss of the masks of some objects.

    Args:
        student: what it answers at the objects' anchors.
        teacher: what it answers there; no gradient reaches it. Its prototypes may have another number and size. Or the
            probabilities of masks laid over the boxes, (B, N, S, S).
        boxes: the teacher's, xyxy in pixels of the picture, shape (B, N, 4).
        weight: the teacher's confidence, shape (B, N).
        size: height and width of the pictures in pixels.

    Returns:
        scalar, at least 0; 0 where no object has any weight.
    """
    logits = _assembled(student)
    height, width = logits.shape[-2:]
    x = (torch.arange(width, device=boxes.device) + 0.5) * (size[1] / width)
    y = (torch.arange(height, device=boxes.device) + 0.5) * (size[0] / height)
    if isinstance(teacher, Tensor):
        target = _laid_over(teacher.detach(), boxes.detach(), x, y)
    else:
        target = _assembled(teacher).detach()
        if target.shape[-2:] != (height, width):
            target = F.interpolate(target, (height, width), mode="bilinear", align_corners=False)
        target = target.sigmoid()
    left, top, right, bottom = boxes.detach()[..., None, None].unbind(2)
    inside = ((x >= left) & (x <= right) & (y[:, None] >= top) & (y[:, None] <= bottom)).float()
    wrong = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * inside
    area = inside.sum((-2, -1)).clamp(min=1)
    drawn, wanted = logits.sigmoid() * inside, target * inside
    both, own, theirs = ((a * b).sum((-2, -1)) for a, b in ((drawn, wanted), (drawn, drawn), (wanted, wanted)))
    dice = 1 - (2 * both + 1) / (own + theirs + 1)
    return weighted_mean(wrong.sum((-2, -1)) / area + dice, weight)


def _assembled(masks: Masks) -> Tensor:
    """Return mask logits (B, N, H, W)."""
    return torch.einsum("bnc,bchw->bnhw", *(part.float() for part in masks))


def _laid_over(masks: Tensor, boxes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return masks (B, N, S, S) laid over boxes (B, N, 4) as seen at columns `x` and rows `y`, (B, N, H, W)."""
    (left, top, right, bottom), count = boxes.flatten(0, 1)[..., None].unbind(1), boxes.shape[0] * boxes.shape[1]
    across = 2 * (x - left) / (right - left).clamp(min=1e-3) - 1
    down = 2 * (y - top) / (bottom - top).clamp(min=1e-3) - 1
    places = torch.stack([across[:, None].expand(-1, len(y), -1), down[..., None].expand(-1, -1, len(x))], -1)
    seen = F.grid_sample(masks.reshape(count, 1, *masks.shape[2:]), places, padding_mode="border", align_corners=False)
    return seen.view(*boxes.shape[:2], len(y), len(x))
