"""Class distillation by softmax with a temperature."""

import math

import pytest
import torch

from yolo_distill.losses.hinton import hinton_loss


def test_hinton_by_hand():
    # tau = 2: softmax of the teacher's logits (2 ln 3, 0) is (3/4, 1/4), the student's (1/2, 1/2).
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2); w = sigmoid(2 ln 3) = 0.9; N_t = max(1, 0.9) = 1.
    student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[2 * math.log(3.0), 0.0]]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert hinton_loss(student, teacher, tau=2.0).item() == pytest.approx(4 * divergence * 0.9, rel=1e-5)
    # Ten such anchors: the sum is tenfold, N_t = 9.
    many = hinton_loss(student.expand(1, 10, 2), teacher.expand(1, 10, 2), tau=2.0)
    assert many.item() == pytest.approx(4 * divergence, rel=1e-5)


def test_hinton_with_one_class_is_nothing():
    student = torch.randn(2, 5, 1, requires_grad=True)
    loss = hinton_loss(student, torch.randn(2, 5, 1))
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


def test_hinton_sees_proportions_only():
    teacher = torch.randn(2, 5, 4)
    assert hinton_loss(teacher + torch.randn(2, 5, 1), teacher).item() == pytest.approx(0, abs=1e-5)


def test_where_the_teacher_sees_nothing_hardly_counts():
    teacher = torch.tensor([[[3.0, -3.0], [-7.0, -12.0]]])
    student = torch.zeros(1, 2, 2, requires_grad=True)
    hinton_loss(student, teacher).backward()
    assert student.grad[0, 1].abs().max() < 0.01 * student.grad[0, 0].abs().max()


def test_unsure_anchors_count_as_little_as_they_are():
    """Divided by its own confidence, one unsure anchor alone would count as a sure one does."""
    sure, unsure = torch.tensor([[[8.0, 6.0]]]), torch.tensor([[[-2.0, -4.0]]])
    student = torch.zeros(1, 1, 2)
    ratio = torch.sigmoid(unsure[0, 0, 0]) / torch.sigmoid(sure[0, 0, 0])
    torch.testing.assert_close(hinton_loss(student, unsure), ratio * hinton_loss(student, sure))


def test_the_gradient_keeps_its_size_when_tau_grows():
    """What tau^2 is for: with hot distributions the gradient is the difference of the logits, whatever tau."""
    student, teacher = torch.randn(1, 6, 3, requires_grad=True), torch.randn(1, 6, 3)
    norms = []
    for tau in (20.0, 80.0):
        (gradient,) = torch.autograd.grad(hinton_loss(student, teacher, tau=tau), student)
        norms.append(gradient.norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=0.1)
