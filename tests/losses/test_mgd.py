"""Masked generative distillation: what is hidden, what is regenerated, and whose random state it is."""

import pytest
import torch
from torch import nn

from yolo_distill.losses.mgd import Generator, hide_places, mgd_loss


def passing_on(channels: int) -> Generator:
    """Return a generator that gives back what it sees, where that is not negative."""
    generator = Generator(channels, channels)
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return generator


def test_is_zero_when_the_generator_makes_the_teachers_map():
    maps = torch.rand(2, 3, 5, 5)
    nothing = torch.zeros(2, 1, 5, 5, dtype=torch.bool)
    assert mgd_loss(passing_on(3)(maps, nothing), maps.clone()) == 0


def test_mgd_by_hand():
    # A generator that passes on what it sees leaves 0 at the hidden place, where the teacher has 3 and 1:
    # (9 + 1) / (2 channels * 2 places).
    maps = torch.tensor([[[[3.0, 2.0]], [[1.0, 5.0]]]])
    hidden = torch.tensor([[[[True, False]]]])
    assert mgd_loss(passing_on(2)(maps, hidden), maps.clone()).item() == pytest.approx(2.5)


def test_what_is_hidden_has_no_say_and_no_gradient():
    student, hidden = torch.randn(2, 4, 6, 6, requires_grad=True), hide_places(torch.zeros(2, 4, 6, 6), 0.5, seed=1)
    mgd_loss(Generator(4, 8)(student, hidden), torch.randn(2, 8, 6, 6)).backward()
    touched = student.grad.abs().sum(1, keepdim=True) > 0
    assert torch.equal(touched, ~hidden)


def test_a_step_of_the_generator_alone_brings_it_nearer():
    student, teacher, generator = torch.randn(2, 4, 6, 6), torch.randn(2, 8, 6, 6, requires_grad=True), Generator(4, 8)
    hidden = hide_places(student, 0.65, seed=0)
    before = mgd_loss(generator(student, hidden), teacher)
    before.backward()
    assert teacher.grad is None
    assert all(p.grad.abs().sum() > 0 for p in generator.parameters())
    torch.optim.SGD(generator.parameters(), lr=0.01).step()
    assert mgd_loss(generator(student, hidden), teacher) < before


def test_the_share_is_hidden_anew_for_each_seed_and_picture():
    maps = torch.zeros(4, 3, 40, 40)
    hidden = hide_places(maps, 0.65, seed=0)
    assert hidden.shape == (4, 1, 40, 40)
    assert hidden.float().mean().item() == pytest.approx(0.65, abs=0.03)
    assert torch.equal(hidden, hide_places(maps, 0.65, seed=0))
    assert not torch.equal(hidden, hide_places(maps, 0.65, seed=1))
    assert not torch.equal(hidden[0], hidden[1])
    assert not hide_places(maps, 0.0, seed=0).any()


def test_hiding_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    hide_places(torch.zeros(1, 1, 8, 8), 0.5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
