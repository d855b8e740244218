"""Class distillation by relations, between the classes of an anchor and between the anchors of a class."""

import pytest
import torch

from yolo_distill.losses.dist import dist_loss


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) * 2


@pytest.mark.parametrize("shape", [(9, 4), (2, 9, 4), (9, 1), (1, 4)])
def test_is_zero_when_equal_up_to_scale_and_shift(shape):
    """A student that is half as sure throughout, and nowhere as unsure."""
    teacher = logits(*shape)
    student = torch.logit(0.1 + 0.5 * teacher.sigmoid())
    assert dist_loss(teacher.clone(), teacher) == 0
    assert dist_loss(student, teacher).item() == pytest.approx(0, abs=1e-4)
    if shape[-1] > 1:
        assert dist_loss(torch.logit(1 - student.sigmoid()), teacher).item() > 1  # upside down is not the same


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
def test_is_never_negative_and_always_finite(scale):
    for student, teacher in ((logits(9, 4), torch.ones(9, 4)), (torch.ones(9, 4), logits(9, 4)), (logits(9, 4),) * 2):
        student = (student * scale).requires_grad_()
        value = dist_loss(student, teacher * scale)
        value.backward()
        assert value >= 0
        assert torch.isfinite(value)
        assert torch.isfinite(student.grad).all()


def test_gradient_reaches_the_student_only():
    student, teacher = logits(9, 4).requires_grad_(), logits(9, 4).requires_grad_()
    value = dist_loss(student, teacher)
    value.backward()
    assert value > 0
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("shape", [(0, 4), (0, 1), (0, 0), (3, 0)])
def test_nothing_to_teach_is_zero_and_differentiable(shape):
    student = logits(*shape).requires_grad_()
    value = dist_loss(student, logits(*shape))
    value.backward()
    assert value == 0


def test_with_one_class_the_anchors_still_have_an_order():
    teacher = torch.tensor([[-3.0], [0.0], [3.0]])
    student = teacher.flip(0).requires_grad_()
    dist_loss(student, teacher).backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0
    assert dist_loss(student[:1], teacher[:1]) == 0  # one anchor of one class is in no relation


def test_leaving_anchors_out_is_the_same_as_weighing_them_with_0():
    """On a CPU they are left out, on a GPU weighed."""
    student, teacher, taught = logits(2, 9, 3), logits(2, 9, 3), torch.rand(2, 9) > 0.5
    torch.testing.assert_close(dist_loss(student[taught], teacher[taught]), dist_loss(student, teacher, taught.float()))


def test_a_teacher_that_sees_nothing_hardly_counts():
    """Divided by its own confidence, noise would count as much as objects do."""
    assert dist_loss(logits(8, 3), torch.randn(8, 3) - 8) < 0.05 * dist_loss(logits(8, 3), torch.randn(8, 3))


def test_dist_by_hand():
    # Two anchors, two classes. The teacher has (0.9, 0.1) and (0.2, 0.6), the student (0.8, 0.2) and (0.5, 0.3).
    # inter: two numbers correlate with 1 or -1: the first anchor agrees (d = 0), the second not (d = 2):
    #        (0.9 * 0 + 0.6 * 2) / (0.9 + 0.6) = 0.8.
    # intra: in the first class both fall from the first anchor to the second, in the second both grow: d = 0.
    teacher, student = torch.tensor([[0.9, 0.1], [0.2, 0.6]]).logit(), torch.tensor([[0.8, 0.2], [0.5, 0.3]]).logit()
    assert dist_loss(student, teacher).item() == pytest.approx(0.8, rel=1e-4)
