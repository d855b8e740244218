"""Channel-wise distillation, and the scale that maps are brought to."""

import math

import pytest
import torch

from yolo_distill.losses.cwd import cwd_loss
from yolo_distill.losses.pkd import standardise


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
