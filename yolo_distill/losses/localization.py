"""Box distillation: decoded boxes by an IoU loss, and the side distributions where both heads have equal bins.

Sources: Zheng et al., "Localization Distillation for Dense Object Detection" (LD), CVPR 2022, arXiv 2102.12252, eq. 4;
the IoU loss is distance-IoU (arXiv 1911.08287). Of its family it is the one that stays finite, gradient included, for
the degenerate boxes that an untrained head without bins predicts. Turned boxes have the host's probabilistic IoU in its
place (Llerena et al., arXiv 2106.06072).

    L_iou  = sum_i w_i (1 - DIoU(b_s, b_t)) / max(1, sum_i w_i)
    L_bins = sum_i w_i mean_e KL(softmax(z_t) || softmax(z_s)) / max(1, sum_i w_i)
    L_l1   = sum_i w_i mean_e |d_s - d_t| / max(1, sum_i w_i)
    L      = L_iou + 0.2 L_bins, or L_iou + 0.2 L_l1 where the student's sides have no bins; L_iou alone where its bins
             are not as many as the teacher's

Legend: i runs over the N anchors that are taught (or over anchors of any shape, w being 0 where they are not), e over
the 4 sides (left, top, right, bottom); b boxes, z bin logits (reg_max bins a side), d distances from the anchor point
to the sides, w the teacher's confidence.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from ultralytics.utils.metrics import bbox_iou, probiou

from yolo_distill.losses.devices import average_over_devices

#: Share of the box term that the side distributions (or distances) have beside the boxes, as dfl has beside box in the
#: host's own gains (1.5 / 7.5).
SIDES = 0.2
#: Values of a turned box: x, y, w, h and its angle.
TURNED = 5
#: What the variances of a turned box are more, in square pixels, or one without width has no gradient. The host's own
#: 0.01 is in cells, here of 8 pixels.
FLOOR = 0.01 * 8**2
#: Of some anchors: side outputs (N, 4, reg_max), distances (N, 4) and boxes, both in pixels: xyxy (N, 4), or turned
#: ones xywhr (N, 5).
Sides = tuple[Tensor, Tensor, Tensor]


def localization_loss(student: Sides, teacher: Sides, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the loss of boxes and of their sides together.

    Args:
        student: what it answers at the anchors.
        teacher: what it answers there; no gradient reaches it.
        weight: the teacher's confidence, shape (N,).
        size: height and width of the pictures in pixels.

    Returns:
        scalar, at least 0; 0 when both answer the same or N is 0.
    """
    sides, distances, boxes = student
    their_sides, their_distances, their_boxes = teacher
    loss = iou_loss(boxes, their_boxes, weight)
    bins = sides.shape[-1]
    if bins == 1:
        height, width = size
        scale = distances.new_tensor([width, height, width, height])
        loss = loss + SIDES * distance_loss(distances / scale, their_distances / scale, weight)
    elif bins == their_sides.shape[-1]:
        loss = loss + SIDES * bins_loss(sides, their_sides, weight)
    return loss


def iou_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted distance-IoU loss of decoded boxes, or that of the probabilistic IoU of turned ones.

    Args:
        student: boxes xyxy in pixels, shape (..., 4), or xywhr, shape (..., 5).
        teacher: boxes likewise; no gradient reaches it.
        weight: the teacher's confidence, shape (...).

    Returns:
        scalar, at least 0; 0 when the boxes are equal or there are none.
    """
    if student.shape[-1] == TURNED:  # the host's function takes one dimension of boxes
        overlap = probiou(student.flatten(0, -2), teacher.detach().flatten(0, -2), floor=FLOOR)
        return weighted_mean(1 - overlap.view_as(weight), weight)
    overlap = bbox_iou(student, teacher.detach(), xywh=False, DIoU=True)
    return weighted_mean(1 - overlap.squeeze(-1), weight)


def bins_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted KL divergence of the side distributions.

    Args:
        student: bin logits, shape (N, 4, reg_max).
        teacher: bin logits, same shape; no gradient reaches it.
        weight: the teacher's confidence, shape (N,).

    Returns:
        scalar, at least 0; 0 when the distributions are equal or N is 0.
    """
    target = F.log_softmax(teacher.detach(), -1)
    divergence = F.kl_div(F.log_softmax(student, -1), target, reduction="none", log_target=True)
    return weighted_mean(divergence.sum(-1).mean(-1), weight)


def distance_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted L1 distance of the sides, for heads without bins.

    Args:
        student: distances from the anchor point, shape (N, 4), in fractions of the picture's size.
        teacher: distances, same shape and unit; no gradient reaches it.
        weight: the teacher's confidence, shape (N,).

    Returns:
        scalar, at least 0; 0 when the distances are equal or N is 0.
    """
    return weighted_mean((student - teacher.detach()).abs().mean(-1), weight)


def weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w * loss) / max(1, sum(w)): less than one box's worth of confidence counts as little as it is."""
    weight = weight.detach()
    return (loss * weight).sum() / average_over_devices(weight.sum()).clamp(min=1.0)
