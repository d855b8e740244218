"""Class distillation by relations: in which proportions the teacher's probabilities stand, whatever their scale.

Source: Huang et al., "Knowledge Distillation from A Stronger Teacher" (DIST), NeurIPS 2022, arXiv 2205.10536,
section 4.

    d(u, v) = 1 - r(u, v)
    L_inter = sum_i w_i d(p_s[i, :], p_t[i, :]) / max(1, sum_i w_i)        w_i = max_c p_t[i, c]
    L_intra = sum_c v_c d(p_s[:, c], p_t[:, c]) / max(1, sum_c v_c)        v_c = max_i p_t[i, c]
    L       = L_inter + L_intra

Legend: r the Pearson correlation; z logits, p = sigmoid(z), s / t student / teacher; i over the anchors of the batch
that are taught, c over the C classes. `inter` compares the classes of one anchor with each other, `intra` the anchors
of the batch in one class.

A correlation is blind to scale and shift: a small student that is less sure than its teacher throughout has nothing to
learn here as long as the proportions are the teacher's. With one class there is nothing to compare it with, and `inter`
is 0; the anchors still have an order.

Departures from the paper:
- It classifies pictures, whose probabilities are a softmax with a temperature. A YOLO head has a sigmoid a class, which
  needs none: nothing ties the classes of an anchor to the sum of 1.
- There each picture and each class counts the same. Here most anchors hold nothing, and a class that is nowhere in the
  batch is noise in all of them: both count by how sure the teacher is of them. Less than one object's worth counts as
  little as it is, as in the other losses.
- 1 - r is half the mean squared difference of the standardised values, with a small constant beside the variance as in
  `pkd.py`: where nothing varies, as in an anchor of one class, it is 0 and has a finite gradient.
- Of several devices each compares the anchors of its own pictures.
- The weights of the two parts, beta and gamma there, are 1: the term has its gain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolo_distill.losses.devices import average_over_devices

#: Beside a variance of probabilities. Where the teacher sees next to nothing, 0.01 of one class in 80, it is ten times
#: as much.
EPS = 1e-7


def dist_loss(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return how far the student's class probabilities are from the teacher's in relation to each other.

    Args:
        student: logits, shape (..., C), usually (N, C) of the anchors that are taught.
        teacher: logits, same shape, of any precision; no gradient reaches it.
        weight: of each anchor, shape (...), 0 where it is not taught; 1 everywhere when None.

    Returns:
        scalar, 0 to 4; 0 when the probabilities are equal up to a positive scale and a shift, or nothing is taught.
    """
    ours, theirs = student.sigmoid().flatten(0, -2), teacher.detach().float().sigmoid().flatten(0, -2)
    anchors, classes = theirs.shape
    taught = theirs.new_ones(anchors) if weight is None else weight.flatten()
    seen = theirs * taught.unsqueeze(1)
    of_anchor, of_class = _largest(seen, 1), _largest(seen, 0)
    inter = (_unlike(ours, theirs, theirs.new_ones(classes)) * of_anchor).sum()
    intra = (_unlike(ours.T, theirs.T, taught) * of_class).sum()
    mass = average_over_devices(torch.stack([of_anchor.sum(), of_class.sum()])).clamp(min=1.0)
    return inter / mass[0] + intra / mass[1]


def _largest(values: Tensor, dim: int) -> Tensor:
    """Return the largest along a dimension, 0 where there are none."""
    return values.amax(dim) if values.shape[dim] else values.sum(dim)


def _unlike(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - r of each row, shape (R,).

    Args:
        student: shape (R, K).
        teacher: same shape.
        weight: of each entry of a row, shape (K,).
    """
    weight = weight / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
    return ((_standardise(student, weight) - _standardise(teacher, weight)).square() * weight).sum(-1) / 2


def _standardise(rows: Tensor, weight: Tensor) -> Tensor:
    centred = rows - (rows * weight).sum(-1, keepdim=True)
    return centred * ((centred.square() * weight).sum(-1, keepdim=True) + EPS).rsqrt()
