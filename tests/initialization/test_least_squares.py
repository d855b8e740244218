"""Convolutions of a started student are fitted, by least squares, to what the teacher's give."""

import copy

import numpy as np
import pytest
import torch
from live_detector import draw, live_detector
from tiny_yolo import write_architecture
from torch import nn

from yolo_distill.initialization.least_squares import behind_activation, reconstruct, regress
from yolo_distill.initialization.weight_selection import plan_start


def _pictures(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.stack(draw(count, 64, 64, seed)).transpose(0, 3, 1, 2)).float() / 255


def _started(family: str, size: str = "s"):
    teacher, student = live_detector(f"{family}{size}.yaml").eval(), live_detector(f"{family}n.yaml", seed=1).eval()
    selected, report = plan_start(student, teacher)
    student.load_state_dict(selected, strict=False)
    return student, teacher, report


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    for name, width in (("tinys", 2), ("tinyn", 1)):
        write_architecture(folder / f"{name}.yaml", width=width)
    return _started(str(folder / "tiny"))


def _with_own_statistics(model, pictures):
    """Return a copy whose batch norms have the moments of these pictures."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(pictures)
    return model.eval()


def _distances(student, teacher, report, pictures) -> list[float]:
    """Return mean squares of what lies between the maps that the heads read, by stride."""
    maps = []
    for model in map(copy.deepcopy, (student, teacher)):
        model.model[-1].training = True
        with torch.no_grad():
            answer = model(pictures)
        maps.append(answer.get("one2many", answer)["feats"])
    pairs = zip(*maps, (8, 16, 32), strict=True)
    return [float((f - w[:, report.chosen[s]]).square().mean()) for f, w, s in pairs]


def test_a_regression_by_hand():
    # z = 3 x + 2; the prior is 1, its best scale 3, so that nothing is missing.
    x = torch.tensor([[-1.0], [0.0], [1.0]])
    weight, bias, before, after = regress(x, 3 * x + 2, torch.ones(1, 1), torch.tensor([True, False, True]))
    assert (weight.item(), bias.item(), before, after) == pytest.approx((3, 2, 0, 0), abs=1e-6)


def test_what_the_prior_does_not_know_is_found():
    # Four places of two inputs that tell nothing of each other, twice: z = 2 x1 + x2, and the prior knows x1 alone.
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(2, 1)
    held = torch.arange(8) < 4
    weight, _, before, after = regress(x, x @ torch.tensor([[2.0], [1.0]]), torch.tensor([[1.0, 0.0]]), held)
    # (X'X + ridge mean(diag) I) d = X' x2 with X'X = 8 I: d = 1 / (1 + ridge); of the places seen the same
    assert weight.tolist() == [[pytest.approx(2), pytest.approx(1 / 1.001)]]
    assert before == pytest.approx(1 / 5)
    assert after == pytest.approx((0.001 / 1.001) ** 2 / 5, rel=1e-2)


def test_a_fit_that_does_not_hold_elsewhere_is_left():
    torch.manual_seed(0)
    x, noise = torch.randn(80, 50), torch.randn(80, 3)
    prior, held = torch.randn(3, 50), torch.arange(80) % 2 == 0
    weight, _, before, after = regress(x, x @ prior.T + 20 * noise, prior, held)
    assert (weight @ prior.T).trace() / prior.square().sum() == pytest.approx(1, abs=0.4)
    assert after <= before
    weight, bias, _, _ = regress(torch.zeros(9, 3), torch.zeros(9, 2), torch.zeros(2, 3), torch.arange(9) < 3)
    assert not weight.any()
    assert not bias.any()


@pytest.mark.parametrize("own", [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU])
def test_what_goes_into_another_activation_is_fitted(own):
    """A channel that a SiLU keeps a little below 0 would be dead behind a ReLU; one that fits by itself stays."""
    torch.manual_seed(0)
    before = torch.randn(500, 2) * 0.3 - torch.tensor([1.0, 0.0])
    wanted = nn.SiLU()(before)
    scale, shift = behind_activation(before, own(inplace=True), wanted)

    def missing(inputs):
        given = own()(inputs)
        return ((given - given.mean(0) - wanted + wanted.mean(0)).square().mean(0) / wanted.var(0)).tolist()

    plain, fitted = missing(before), missing((before + shift) * scale)
    assert all(a <= b for a, b in zip(fitted, plain, strict=True))
    if own in {nn.ReLU, nn.ReLU6}:
        assert plain[0] > 0.9 > 0.5 > fitted[0]
    if own is nn.SiLU:
        assert (scale.tolist(), shift.tolist()) == ([1, 1], [0, 0])


@pytest.mark.parametrize(
    "family", ["yolo26", *(pytest.param(f"yolo{v}", marks=pytest.mark.slow) for v in ("v5", "v8", "v10", "11", "12"))]
)
def test_the_neck_comes_closer_on_pictures_not_seen(family):
    student, teacher, report = _started(family)
    selected = _with_own_statistics(student, _pictures(32, 0))
    done = reconstruct(student, teacher, report, _pictures(32, 0))
    before, after = (_distances(model, teacher, report, _pictures(8, 9)) for model in (selected, student))
    assert all(a < 0.95 * b for a, b in zip(after, before, strict=True))
    assert all(done.after[path] <= done.before[path] for path in done.after)
    assert str(done).startswith(f"{len(done.after)} convolutions, mean error 0.")


def test_a_student_as_wide_as_its_teacher_stays_what_it_was(started):
    teacher = started[0]
    student = copy.deepcopy(teacher)
    selected, report = plan_start(student, teacher)
    student.load_state_dict(selected)
    pictures = _pictures(4, 0)
    done = reconstruct(student, teacher, report, pictures)
    assert max(done.after.values()) < 1e-4
    assert max(_distances(student, teacher, report, pictures)) < 1e-4


def test_statistics_are_the_students_own(started):
    student, teacher, report = started
    student, pictures = copy.deepcopy(student), _pictures(8, 0)
    reconstruct(student, teacher, report, pictures)
    again = _with_own_statistics(student, pictures)
    for (name, value), other in zip(student.state_dict().items(), again.state_dict().values(), strict=True):
        if "num_batches" in name:
            continue
        assert torch.allclose(value.float(), other.float(), rtol=0.1, atol=1e-2), name


@pytest.mark.slow
def test_a_deeper_teacher_and_one_of_other_classes():
    student, teacher, report = _started("yolo11", "m")
    done = reconstruct(student, teacher, report, _pictures(4, 0))
    assert done.after
    teacher = live_detector("yolov8s.yaml")
    teacher.names = {0: "a", 1: "b", 2: "c"}
    student = live_detector("yolov8n.yaml", seed=1)
    student.names = {0: "x", 1: "a", 2: "y"}
    selected, report = plan_start(student, teacher)
    student.load_state_dict(selected, strict=False)
    done = reconstruct(student, teacher, report, _pictures(4, 0))
    head = len(student.model) - 1
    assert f"model.{head}.cv2.0.2" in done.after  # boxes have all their rows, classes two without a counterpart
    assert f"model.{head}.cv3.0.2" not in done.after


def test_what_cannot_be_fitted_stays_as_it_was(started):
    student, teacher, report = started
    model = copy.deepcopy(student)
    assert str(reconstruct(model, teacher, report, _pictures(3, 0))) == "no convolution, which takes 4 pictures or more"
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in student.state_dict().items())
    reconstruct(model, teacher, report, torch.full((8, 3, 64, 64), 0.5))  # nothing to be seen on any of them
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert model.model[0].bn.weight.abs().mean() > 0.1  # a picture with something on it is still let through


def test_it_repeats_and_nothing_else_changes(started):
    student, teacher, report = started
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    results = []
    for seed in (0, 0, 1):
        model = copy.deepcopy(student)
        model.model[2].train().requires_grad_(False)
        torch.manual_seed(len(results))
        random = torch.get_rng_state()
        reconstruct(model, teacher, report, _pictures(4, 0), places=100, seed=seed)
        assert torch.equal(torch.get_rng_state(), random)
        assert not any(p.requires_grad for p in model.model[2].parameters())
        assert [m.training for m in model.model] == [at == 2 for at in range(len(model.model))]
        assert not any(m.training for m in teacher.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for net in (model, teacher) for m in net.modules())
        results.append(model.state_dict())
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())
    assert not all(torch.equal(value, results[2][key]) for key, value in results[0].items())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
