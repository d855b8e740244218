"""Properties every distillation loss has: zero when equal, never negative, gradient to the student only, finite."""

import pytest
import torch

from yolo_distill.losses.cwd import cwd_loss
from yolo_distill.losses.hinton import hinton_loss
from yolo_distill.losses.localization import bins_loss, distance_loss, iou_loss
from yolo_distill.losses.logit import logit_loss
from yolo_distill.losses.mgd import Generator, hide_places, mgd_loss
from yolo_distill.losses.mimic import mimic_loss
from yolo_distill.losses.pkd import pkd_loss


def _boxes(n: int) -> torch.Tensor:
    corner = torch.rand(n, 2) * 50
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * 50], 1)


def _maps(n: int) -> torch.Tensor:
    return torch.randn(2, 3, n, n) if n else torch.randn(0, 3, 4, 4)


def _regenerated(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    generator = Generator(3, 3)  # the same at the same random state, as the random weights of the others
    return mgd_loss(generator(student, hide_places(student, 0.5, seed=0)), teacher)


LOSSES = {
    "logit": (lambda s, t: logit_loss(s, t), lambda n: torch.randn(2, n, 3) * 3),
    "hinton": (lambda s, t: hinton_loss(s, t), lambda n: torch.randn(2, n, 3) * 3),
    "iou": (lambda s, t: iou_loss(s, t, torch.rand(len(s))), _boxes),
    "bins": (lambda s, t: bins_loss(s, t, torch.rand(len(s))), lambda n: torch.randn(n, 4, 16)),
    "distance": (lambda s, t: distance_loss(s, t, torch.rand(len(s))), lambda n: torch.rand(n, 4)),
    "cwd": (lambda s, t: cwd_loss(s, t), _maps),
    "pkd": (lambda s, t: pkd_loss(s, t), _maps),
    "mgd": (_regenerated, _maps),
    "mimic": (lambda s, t: mimic_loss(s, t), _maps),
    "mimic, weighted": (lambda s, t: mimic_loss(s, t, torch.rand(len(s), *s.shape[2:])), _maps),
}
#: The student's map is one that the teacher's has to be made from: see test_mgd.py for where that is 0.
ZERO_WHEN_EQUAL = {name: pair for name, pair in LOSSES.items() if name != "mgd"}
each_loss = pytest.mark.parametrize(("loss", "make"), LOSSES.values(), ids=LOSSES)


@pytest.mark.parametrize(("loss", "make"), ZERO_WHEN_EQUAL.values(), ids=ZERO_WHEN_EQUAL)
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


@each_loss
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_constant_and_extreme_input_is_finite_and_never_negative(loss, make, scale):
    """A dead channel, a picture of one colour, boxes without area, logits far from 0."""
    for student, teacher in ((make(6), torch.ones_like(make(6))), (torch.ones_like(make(6)), make(6))):
        student, teacher = (student * scale).requires_grad_(), teacher * scale
        value = loss(student, teacher)
        value.backward()
        assert torch.isfinite(value)
        assert value > -1e-6  # rounding, where the two hardly differ
        assert torch.isfinite(student.grad).all()


@each_loss
def test_is_a_scalar_in_single_precision(loss, make):
    value = loss(make(6), make(6))
    assert value.shape == ()
    assert value.dtype == torch.float32


def test_leaving_anchors_out_is_the_same_as_weighing_them_with_0():
    """On a CPU they are left out, on a GPU weighed."""
    student, teacher, boxes = torch.randn(2, 9, 3), torch.randn(2, 9, 3), _boxes(18).view(2, 9, 4)
    taught, weight = torch.rand(2, 9) > 0.5, torch.rand(2, 9)
    torch.testing.assert_close(
        logit_loss(student[taught], teacher[taught]), logit_loss(student, teacher, taught.float())
    )
    torch.testing.assert_close(
        hinton_loss(student[taught], teacher[taught]), hinton_loss(student, teacher, taught.float())
    )
    torch.testing.assert_close(
        iou_loss(boxes[taught], boxes[taught] + 2, weight[taught]), iou_loss(boxes, boxes + 2, weight * taught)
    )
