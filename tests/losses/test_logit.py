"""Class distillation by weighted binary cross-entropy."""

import math

import pytest
import torch

from yolo_distill.losses.logit import confidence, logit_loss, worth_teaching


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_logits_stay_finite(scale):
    student = (torch.randn(1, 5, 2) * scale).requires_grad_()
    logit_loss(student, torch.randn(1, 5, 2) * scale).backward()
    assert torch.isfinite(student.grad).all()


def test_logit_by_hand():
    # One anchor, one class: p_s = 0.5, p_t = 0.75, so |D| = 0.25, BCE = ln 2, and N = max(1, 0.75) = 1.
    student, teacher = torch.zeros(1, 1, 1), torch.tensor([[[math.log(3.0)]]])
    assert logit_loss(student, teacher).item() == pytest.approx(0.25 * math.log(2), rel=1e-5)


def test_logit_is_normalised_by_what_either_side_sees():
    student, teacher = torch.zeros(1, 8, 1), torch.full((1, 8, 1), math.log(3.0))
    # Eight such anchors: the sum is eightfold, N = 8 * 0.75 = 6.
    assert logit_loss(student, teacher).item() == pytest.approx(8 * 0.25 * math.log(2) / 6, rel=1e-5)


def test_a_teacher_that_sees_nothing_is_not_louder_than_one_that_sees_as_much_as_the_student():
    sees, nothing = torch.full((1, 100, 1), 2.0), torch.full((1, 100, 1), -9.0)
    # Where one of both sees something with p = 0.88 and the other nothing, the loss is about -ln(1 - p) = 2.1.
    assert logit_loss(sees, nothing).item() == pytest.approx(2.1, abs=0.1)
    assert logit_loss(nothing, sees) > logit_loss(sees, nothing)


def test_logit_with_gamma_2_is_the_quality_focal_loss():
    """Value by value the QFL of the paper (eq. 2, beta 2), with the teacher's probability as the quality."""
    student, teacher = torch.randn(2, 7, 3) * 2, torch.randn(2, 7, 3) * 2
    p, y = student.sigmoid(), teacher.sigmoid()
    qfl = (y - p).abs() ** 2 * -((1 - y) * (1 - p).log() + y * p.log())
    mass = torch.maximum(y, p).amax(-1).sum()
    assert mass > 1
    torch.testing.assert_close(logit_loss(student, teacher, gamma=2.0) * mass, qfl.sum())
    # By hand: p_s = 0.5, p_t = 0.75: 0.25^2 * ln 2, and N = 1.
    by_hand = logit_loss(torch.zeros(1, 1, 1), torch.tensor([[[math.log(3.0)]]]), gamma=2.0)
    assert by_hand.item() == pytest.approx(0.0625 * math.log(2), rel=1e-5)


def test_the_weight_of_logit_carries_no_gradient():
    student, teacher = torch.randn(1, 5, 3, requires_grad=True), torch.randn(1, 5, 3) + 2
    logit_loss(student, teacher, gamma=2.0).backward()
    p, y = student.detach().sigmoid(), teacher.sigmoid()
    # Of BCE alone: p - y, times the weight.
    torch.testing.assert_close(student.grad, (y - p).abs() ** 2 * (p - y) / torch.maximum(y, p).amax(-1).sum())


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
