"""What each feature loss is blind to, what it weighs, and which is the host's own."""

import pytest
import torch
from torch import nn
from ultralytics.nn.distill_model import DistillationModel

from yolo_distill.losses.cwd import cwd_loss
from yolo_distill.losses.logit import NOTHING
from yolo_distill.losses.mgd import Generator, hide_places, mgd_loss
from yolo_distill.losses.mimic import mimic_loss
from yolo_distill.losses.pkd import pkd_loss, standardise


@pytest.mark.parametrize("loss", [cwd_loss, pkd_loss])
def test_scale_and_shift_of_a_channel_are_not_seen(loss):
    maps = torch.randn(2, 3, 5, 5)
    assert loss(maps * 7 + 3, maps).item() == pytest.approx(0, abs=1e-5)
    assert standardise(torch.full((1, 1, 3, 3), 5.0)).abs().max() == 0


def test_pkd_is_1_minus_the_correlation():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    rows = [torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1] for c in range(3)]
    assert pkd_loss(student, teacher).item() == pytest.approx(1 - torch.stack(rows).mean().item(), rel=1e-3)
    assert pkd_loss(-teacher, teacher).item() == pytest.approx(2, rel=1e-3)


def passing_on(channels: int) -> Generator:
    """Return a generator that gives back what it sees, where that is not negative."""
    generator = Generator(channels, channels)
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return generator


def test_mgd_by_hand():
    # A generator that passes on what it sees leaves 0 at the hidden place, where the teacher has 3 and 1:
    # (9 + 1) / (2 channels * 2 places).
    maps = torch.tensor([[[[3.0, 2.0]], [[1.0, 5.0]]]])
    hidden = torch.tensor([[[[True, False]]]])
    assert mgd_loss(passing_on(2)(maps, hidden), maps.clone()).item() == pytest.approx(2.5)
    assert mgd_loss(passing_on(2)(maps, hidden & False), maps.clone()) == 0


def test_what_is_hidden_has_no_say_and_a_step_of_the_generator_brings_it_nearer():
    student, teacher, generator = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(2, 8, 6, 6), Generator(4, 8)
    hidden = hide_places(student, 0.5, seed=1)
    before = mgd_loss(generator(student, hidden), teacher)
    before.backward()
    assert torch.equal(student.grad.abs().sum(1, keepdim=True) > 0, ~hidden)
    assert all(p.grad.abs().sum() > 0 for p in generator.parameters())
    torch.optim.SGD(generator.parameters(), lr=0.01).step()
    assert mgd_loss(generator(student, hidden), teacher) < before


def test_the_share_is_hidden_anew_for_each_seed_and_picture_by_a_random_state_of_its_own():
    maps, before = torch.zeros(4, 3, 40, 40), torch.get_rng_state()
    hidden = hide_places(maps, 0.65, seed=0)
    assert hidden.shape == (4, 1, 40, 40)
    assert hidden.float().mean().item() == pytest.approx(0.65, abs=0.03)
    assert torch.equal(hidden, hide_places(maps, 0.65, seed=0))
    assert not torch.equal(hidden, hide_places(maps, 0.65, seed=1))
    assert not torch.equal(hidden[0], hidden[1])
    assert not hide_places(maps, 0.0, seed=0).any()
    assert torch.equal(torch.get_rng_state(), before)


def hosts(student, teacher, weight):
    """Return what Ultralytics' own distillation makes of one level; it has no use for `self`."""
    return DistillationModel.loss_sl2(None, student, teacher, 0, (weight.flatten(1).unsqueeze(1),))


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (3, 16, 8, 8), (2, 64, 4, 6)])
def test_weighted_mimic_is_the_hosts_own_number(shape):
    student, teacher = torch.randn(shape) * 3, torch.randn(shape) * 3
    weight = torch.rand(shape[0], *shape[2:]) ** 4  # little at most places, as a teacher's scores are
    weight[:, 0, 0] = 1.0
    torch.testing.assert_close(mimic_loss(student, teacher, weight), hosts(student, teacher, weight))
    alike = torch.full_like(weight, 0.5)
    torch.testing.assert_close(mimic_loss(student, teacher, alike), mimic_loss(student, teacher))


def test_a_level_on_which_the_teacher_sees_nothing_does_not_count_and_an_unsure_place_little():
    """The host divides next to nothing by itself, and has the level count in full."""
    student, teacher = torch.randn(16, 3, 20, 20, requires_grad=True), torch.randn(16, 3, 20, 20)
    weight = torch.full((16, 20, 20), NOTHING / 2, requires_grad=True)
    assert weight.sum() > 1  # background alone must not add up to an object
    loss = mimic_loss(student, teacher, weight)
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()
    assert weight.grad is None
    assert hosts(student, teacher, weight) > 1
    unsure = torch.zeros(16, 20, 20)
    unsure[0, 1, 1] = 0.1
    torch.testing.assert_close(mimic_loss(student, teacher, unsure), 0.1 * hosts(student, teacher, unsure))


@pytest.mark.parametrize("least", [0.0, 1e-44, 1e-30])
def test_weights_of_nothing_are_finite(least):
    student = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = mimic_loss(student, torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), least))
    loss.backward()
    assert loss == 0
    assert torch.isfinite(student.grad).all()
