"""What each class loss is for: logit for whether and which together, hinton for which, dist for proportions."""

import math

import pytest
import torch

from yolo_distill.losses.dist import dist_loss
from yolo_distill.losses.hinton import hinton_loss
from yolo_distill.losses.logit import confidence, logit_loss, worth_teaching


def test_a_teacher_that_sees_nothing_is_not_louder_than_one_that_sees_as_much_as_the_student():
    sees, nothing = torch.full((1, 100, 1), 2.0), torch.full((1, 100, 1), -9.0)
    # Where one of both sees something with p = 0.88 and the other nothing, the loss is about -ln(1 - p) = 2.1.
    assert logit_loss(sees, nothing).item() == pytest.approx(2.1, abs=0.1)
    assert logit_loss(nothing, sees) > logit_loss(sees, nothing)


def test_logit_with_gamma_2_is_the_quality_focal_loss_whose_weight_carries_no_gradient():
    """Value by value the QFL of the paper (eq. 2, beta 2), with the teacher's probability as the quality."""
    student, teacher = (torch.randn(2, 7, 3) * 2).requires_grad_(), torch.randn(2, 7, 3) * 2
    p, y = student.detach().sigmoid(), teacher.sigmoid()
    mass = torch.maximum(y, p).amax(-1).sum()
    assert mass > 1
    qfl = (y - p).abs() ** 2 * -((1 - y) * (1 - p).log() + y * p.log())
    loss = logit_loss(student, teacher, gamma=2.0)
    torch.testing.assert_close(loss.detach() * mass, qfl.sum())
    loss.backward()
    # Of BCE alone: p - y, times the weight.
    torch.testing.assert_close(student.grad, (y - p).abs() ** 2 * (p - y) / mass)


def test_one_class_is_taught_by_logit_has_an_order_in_dist_and_is_nothing_to_hinton():
    teacher = torch.tensor([[-3.0], [0.0], [3.0]])
    student = teacher.flip(0).requires_grad_()
    assert logit_loss(student, teacher) > 0.1
    assert dist_loss(student, teacher) > 0.1
    assert dist_loss(student[:1], teacher[:1]) == 0  # one anchor of one class is in no relation
    loss = hinton_loss(student, teacher)
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


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
    found = confidence(torch.tensor([[[0.0, 2.0], [-1.0, -3.0]]]))
    assert found.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))])


def test_hinton_sees_proportions_only():
    teacher = torch.randn(2, 5, 4)
    assert hinton_loss(teacher + torch.randn(2, 5, 1), teacher).item() == pytest.approx(0, abs=1e-5)


def test_unsure_anchors_count_as_little_as_they_are():
    """Divided by its own confidence, one unsure anchor alone would count as a sure one does."""
    sure, unsure, student = torch.tensor([[[8.0, 6.0]]]), torch.tensor([[[-2.0, -4.0]]]), torch.zeros(1, 1, 2)
    ratio = torch.sigmoid(unsure[0, 0, 0]) / torch.sigmoid(sure[0, 0, 0])
    torch.testing.assert_close(hinton_loss(student, unsure), ratio * hinton_loss(student, sure))
    noise = torch.randn(2, 8, 3) * 2
    assert dist_loss(noise[0], torch.randn(8, 3) - 8) < 0.05 * dist_loss(noise[1], torch.randn(8, 3))


def test_the_gradient_keeps_its_size_when_tau_grows():
    """What tau^2 is for: with hot distributions the gradient is the difference of the logits, whatever tau."""
    student, teacher = torch.randn(1, 6, 3, requires_grad=True), torch.randn(1, 6, 3)
    cool, hot = (torch.autograd.grad(hinton_loss(student, teacher, tau=tau), student)[0].norm() for tau in (20.0, 80.0))
    assert hot.item() == pytest.approx(cool.item(), rel=0.1)


@pytest.mark.parametrize("shape", [(9, 4), (9, 1), (1, 4)])
def test_dist_is_zero_when_equal_up_to_scale_and_shift(shape):
    """A student that is half as sure throughout, and nowhere as unsure."""
    teacher = torch.randn(*shape) * 2
    student = torch.logit(0.1 + 0.5 * teacher.sigmoid())
    assert dist_loss(student, teacher).item() == pytest.approx(0, abs=1e-4)
    if shape[-1] > 1:
        assert dist_loss(torch.logit(1 - student.sigmoid()), teacher).item() > 1  # upside down is not the same


@pytest.mark.parametrize("shape", [(0, 1), (0, 0), (3, 0)])
def test_without_anchors_or_classes_dist_is_0(shape):
    assert dist_loss(torch.randn(*shape), torch.randn(*shape)) == 0
