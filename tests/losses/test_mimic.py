"""Feature distillation by squared distance, and Ultralytics' own loss beside it."""

import pytest
import torch
from ultralytics.nn.distill_model import DistillationModel

from yolo_distill.losses.logit import NOTHING
from yolo_distill.losses.mimic import mimic_loss


def hosts(student, teacher, weight):
    """Return what Ultralytics' own distillation makes of one level; it has no use for `self`."""
    return DistillationModel.loss_sl2(None, student, teacher, 0, (weight.flatten(1).unsqueeze(1),))


def test_mimic_by_hand():
    # Two channels, two places: squared errors 1 and 9 at the first, 4 and 0 at the second.
    student, teacher = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]]), torch.zeros(1, 2, 1, 2)
    assert mimic_loss(student, teacher).item() == pytest.approx(14 / 4)
    # Weights 0.9 and 0.3: (0.9 * 10 + 0.3 * 4) / (2 * 1.2).
    assert mimic_loss(student, teacher, torch.tensor([[[0.9, 0.3]]])).item() == pytest.approx(10.2 / 2.4)


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (3, 16, 8, 8), (2, 64, 4, 6)])
def test_weighted_mimic_is_the_hosts_own_number(shape):
    student, teacher = torch.randn(shape) * 3, torch.randn(shape) * 3
    weight = torch.rand(shape[0], *shape[2:]) ** 4  # little at most places, as a teacher's scores are
    weight[:, 0, 0] = 1.0
    torch.testing.assert_close(mimic_loss(student, teacher, weight), hosts(student, teacher, weight))


def test_equal_weights_are_no_weights():
    student, teacher = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(mimic_loss(student, teacher, torch.full((2, 5, 5), 0.5)), mimic_loss(student, teacher))


def test_a_level_on_which_the_teacher_sees_nothing_does_not_count():
    """The host divides next to nothing by itself, and has the level count in full."""
    student, teacher = torch.randn(16, 3, 20, 20, requires_grad=True), torch.randn(16, 3, 20, 20)
    weight = torch.full((16, 20, 20), NOTHING / 2)
    assert weight.sum() > 1  # background alone must not add up to an object
    loss = mimic_loss(student, teacher, weight)
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()
    assert hosts(student, teacher, weight) > 1


def test_an_unsure_place_counts_as_little_as_it_is():
    student, teacher = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    weight = torch.zeros(1, 4, 4)
    weight[0, 1, 1] = 0.1
    torch.testing.assert_close(mimic_loss(student, teacher, weight), 0.1 * hosts(student, teacher, weight))


def test_the_weight_carries_no_gradient():
    weight = torch.rand(1, 4, 4, requires_grad=True)
    mimic_loss(torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(1, 3, 4, 4), weight).backward()
    assert weight.grad is None


@pytest.mark.parametrize("least", [0.0, 1e-44, 1e-30])
def test_weights_of_nothing_are_finite(least):
    student = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = mimic_loss(student, torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), least))
    loss.backward()
    assert loss == 0
    assert torch.isfinite(student.grad).all()
