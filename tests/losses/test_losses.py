"""Properties every distillation loss has: zero when equal, never negative, gradient to the student only, finite."""

import math

import pytest
import torch

from yolo_distill.losses.cwd import cwd_loss, standardise
from yolo_distill.losses.localization import bins_loss, distance_loss, iou_loss
from yolo_distill.losses.logit import confidence, logit_loss, worth_teaching


def _boxes(n: int) -> torch.Tensor:
    corner = torch.rand(n, 2) * 50
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * 50], 1)


LOSSES = {
    "logit": (lambda s, t: logit_loss(s, t), lambda n: torch.randn(2, n, 3) * 3),
    "iou": (lambda s, t: iou_loss(s, t, torch.rand(len(s))), _boxes),
    "bins": (lambda s, t: bins_loss(s, t, torch.rand(len(s))), lambda n: torch.randn(n, 4, 16)),
    "distance": (lambda s, t: distance_loss(s, t, torch.rand(len(s))), lambda n: torch.rand(n, 4)),
    "cwd": (lambda s, t: cwd_loss(s, t), lambda n: torch.randn(2, 3, n, n) if n else torch.randn(0, 3, 4, 4)),
}
each_loss = pytest.mark.parametrize(("loss", "make"), LOSSES.values(), ids=LOSSES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@each_loss
def test_is_zero_when_both_are_equal(loss, make):
    value = make(6)
    assert loss(value, value.clone()).item() == pytest.approx(0, abs=1e-5)


@each_loss
def test_is_positive_when_they_differ(loss, make):
    assert loss(make(6), make(6)).item() > 0


@each_loss
def test_gradient_reaches_the_student_only(loss, make):
    student, teacher = make(6).requires_grad_(), make(6).requires_grad_()
    loss(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert torch.isfinite(student.grad).all()
    assert teacher.grad is None


@each_loss
def test_a_step_along_the_gradient_brings_the_student_nearer(loss, make):
    student, teacher = make(6), make(6)
    torch.manual_seed(1)  # the same random weights before and after
    before = loss(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(before, student)
    torch.manual_seed(1)
    after = loss(student.detach() - 1e-3 * gradient / gradient.norm(), teacher)
    assert after < before


@each_loss
def test_nothing_to_teach_is_zero_and_differentiable(loss, make):
    student = make(0).requires_grad_()
    value = loss(student, make(0))
    assert value.item() == 0
    value.backward()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_logits_stay_finite(scale):
    student = (torch.randn(1, 5, 2) * scale).requires_grad_()
    logit_loss(student, torch.randn(1, 5, 2) * scale).backward()
    assert torch.isfinite(student.grad).all()


def test_logit_by_hand():
    # One anchor, one class: p_s = 0.5, p_t = 0.75, so |D| = 0.25, BCE = ln 2, and N_t = max(1, 0.75) = 1.
    student, teacher = torch.zeros(1, 1, 1), torch.tensor([[[math.log(3.0)]]])
    assert logit_loss(student, teacher).item() == pytest.approx(0.25 * math.log(2), rel=1e-5)


def test_logit_is_normalised_by_the_teachers_confidence():
    student, teacher = torch.zeros(1, 8, 1), torch.full((1, 8, 1), math.log(3.0))
    # Eight such anchors: the sum is eightfold, N_t = 8 * 0.75 = 6.
    assert logit_loss(student, teacher).item() == pytest.approx(8 * 0.25 * math.log(2) / 6, rel=1e-5)


def test_logit_with_one_class_teaches():
    # Softmax KL would be exactly zero here.
    assert logit_loss(torch.zeros(1, 3, 1), torch.full((1, 3, 1), 4.0)) > 0.1


def test_logit_leaves_masked_anchors_alone():
    student = torch.zeros(1, 4, 2, requires_grad=True)
    mask = torch.tensor([[True, False, False, True]])
    logit_loss(student, torch.randn(1, 4, 2), mask.float()).backward()
    assert (student.grad[0, 1:3] == 0).all()
    assert (student.grad[0, [0, 3]] != 0).all()


def test_background_barely_counts():
    # 8400 anchors that both call background must not outweigh one that they disagree on.
    student, teacher = torch.full((1, 8401, 80), -8.0), torch.full((1, 8401, 80), -9.0)
    student[0, 0, 0], teacher[0, 0, 0] = -2.0, 3.0
    alone = logit_loss(student[:, :1, :1], teacher[:, :1, :1])
    assert logit_loss(student, teacher) < 1.2 * alone


def test_leaving_anchors_out_is_the_same_as_weighing_them_with_0():
    """On a CPU they are left out, on a GPU weighed."""
    student, teacher, boxes = torch.randn(2, 9, 3), torch.randn(2, 9, 3), _boxes(18).view(2, 9, 4)
    taught, weight = torch.rand(2, 9) > 0.5, torch.rand(2, 9)
    torch.testing.assert_close(
        logit_loss(student[taught], teacher[taught]), logit_loss(student, teacher, taught.float())
    )
    torch.testing.assert_close(
        iou_loss(boxes[taught], boxes[taught] + 2, weight[taught]), iou_loss(boxes, boxes + 2, weight * taught)
    )


def test_an_anchor_is_worth_teaching_if_one_side_sees_something():
    nothing, something = [-6.0, -7.0], [-7.0, 1.0]
    student = torch.tensor([nothing, nothing, something, something])
    teacher = torch.tensor([nothing, something, nothing, something])
    assert worth_teaching(student, teacher).tolist() == [False, True, True, True]
    # Without focus on disagreement, background counts.
    assert worth_teaching(student, teacher, gamma=0.5).all()


def test_what_is_left_out_hardly_has_a_gradient():
    """8400 anchors just below the line weigh less than one that both sides disagree on."""
    student = torch.full((1, 8401, 3), -4.6, requires_grad=True)
    teacher = torch.full((1, 8401, 3), -9.0)
    teacher[0, 0] = 2.0
    logit_loss(student, teacher).backward()
    assert student.grad[0, 1:].abs().max() < 1e-4 * student.grad[0, 0].abs().max() * 10


def test_confidence_is_the_best_class():
    assert confidence(torch.tensor([[[0.0, 2.0], [-1.0, -3.0]]])).flatten().tolist() == pytest.approx(
        [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]
    )


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


def test_cwd_ignores_scale_and_shift():
    maps = torch.randn(2, 3, 5, 5)
    assert cwd_loss(maps * 7 + 3, maps).item() == pytest.approx(0, abs=1e-5)


def test_cwd_by_hand():
    # One channel of two places: standardised maps are (1, -1) and (-1, 1); KL(p || q) with p = softmax(1, -1).
    student, teacher = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    p = 1 / (1 + math.exp(-2))
    expected = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    assert cwd_loss(student, teacher).item() == pytest.approx(expected, rel=1e-3)


def test_a_constant_channel_standardises_to_zero():
    assert standardise(torch.full((1, 1, 3, 3), 5.0)).abs().max() == 0
