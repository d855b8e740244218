"""Box distillation by overlap, side distributions and distances."""

import math

import pytest
import torch

from yolo_distill.losses.localization import bins_loss, distance_loss, iou_loss


def _boxes(n: int) -> torch.Tensor:
    corner = torch.rand(n, 2) * 50
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * 50], 1)


def test_iou_by_hand():
    # Two 10 x 10 boxes, 5 apart: IoU = 50 / 150; centres 5 apart, diagonal^2 = 15^2 + 10^2.
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10]])
    assert iou_loss(a, b, torch.ones(1)).item() == pytest.approx(1 - 1 / 3 + 25 / 325, rel=1e-5)


def test_iou_of_degenerate_boxes_is_finite():
    # What a head without bins predicts before training: sides crossed or of no size.
    student = torch.tensor([[5.0, 5, 5, 5], [9, 9, 1, 1], [0, 0, 10, 0]], requires_grad=True)
    loss = iou_loss(student, torch.tensor([[5.0, 5, 5, 5], [0, 0, 10, 10], [0, 0, 10, 10]]), torch.ones(3))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_boxes_weigh_by_confidence():
    a, b = _boxes(2), _boxes(2)
    both = iou_loss(a, b, torch.tensor([3.0, 0.0]))
    assert both.item() == pytest.approx(iou_loss(a[:1], b[:1], torch.tensor([3.0])).item(), rel=1e-6)


def test_little_confidence_counts_little():
    # One unsure anchor in a picture (an empty level) must not weigh as much as a sure one.
    a, b = _boxes(1), _boxes(1)
    assert iou_loss(a, b, torch.tensor([0.1])).item() == pytest.approx(0.1 * iou_loss(a, b, torch.ones(1)).item(), 1e-5)


def test_distance_by_hand():
    assert distance_loss(torch.zeros(1, 4), torch.full((1, 4), 0.25), torch.ones(1)).item() == pytest.approx(0.25)


def test_bins_by_hand():
    # Teacher sure of bin 0 of 2, student undecided: KL = ln 2 a side, mean over sides ln 2.
    teacher = torch.tensor([100.0, 0.0]).expand(1, 4, 2)
    assert bins_loss(torch.zeros(1, 4, 2), teacher, torch.ones(1)).item() == pytest.approx(math.log(2), rel=1e-5)
