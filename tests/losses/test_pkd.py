"""Feature distillation by Pearson correlation."""

import pytest
import torch

from yolo_distill.losses.pkd import pkd_loss


def test_pkd_by_hand():
    # One channel of three places. Student (0, 1, 2) has variance 2/3, teacher (0, 0, 3) variance 2; the covariance is
    # (-1 * -1 + 0 * -1 + 1 * 2) / 3 = 1, so r = 1 / sqrt(4/3), and the loss is 1 - r.
    student, teacher = torch.tensor([[[[0.0, 1.0, 2.0]]]]), torch.tensor([[[[0.0, 0.0, 3.0]]]])
    assert pkd_loss(student, teacher).item() == pytest.approx(1 - (3 / 4) ** 0.5, rel=1e-3)


def test_pkd_is_1_minus_the_correlation():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    rows = [torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1] for c in range(3)]
    assert pkd_loss(student, teacher).item() == pytest.approx(1 - torch.stack(rows).mean().item(), rel=1e-3)


def test_pkd_ignores_scale_and_shift_but_not_sign():
    maps = torch.randn(2, 3, 5, 5)
    assert pkd_loss(maps * 7 + 3, maps).item() == pytest.approx(0, abs=1e-5)
    assert pkd_loss(-maps, maps).item() == pytest.approx(2, rel=1e-3)
