"""Layers of a started student learn what the teacher's same layers give."""

import copy

import numpy as np
import pytest
import torch
from live_detector import draw, live_detector

from yolo_distill.engine.batch_norm import estimate_batch_norm
from yolo_distill.engine.healing import heal, layer_errors
from yolo_distill.engine.start import plan_start


def _pictures(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.stack(draw(count, 64, 64, seed)).transpose(0, 3, 1, 2)).float() / 255


@pytest.fixture(scope="module")
def started():
    teacher, student = live_detector("yolov8s.yaml").eval(), live_detector("yolov8n.yaml", seed=1).eval()
    selected, report = plan_start(student, teacher)
    student.load_state_dict(selected)
    return student, teacher, report


@pytest.fixture(scope="module")
def healed(started):
    student, teacher, report = started
    student = copy.deepcopy(student)
    return student, heal(student, teacher, report, _pictures(16, 0), 30, batch=8)


def _errors(student, teacher, report, pictures) -> dict[str, float]:
    """Return the errors when the statistics of the batch norms are the student's own, healed or not."""
    student = copy.deepcopy(student)
    estimate_batch_norm(student, _pictures(16, 0))
    with torch.no_grad():
        return {path: error.item() for path, error in layer_errors(student, teacher, report, pictures).items()}


def test_layers_come_closer_on_pictures_not_seen(started, healed):
    student, teacher, report = started
    unseen = _pictures(8, seed=9)
    before, after = (_errors(model, teacher, report, unseen) for model in (student, healed[0]))
    body = [path for path in before if path.count(".") == 1]
    assert len(body) == 16  # those with weights, without the head
    assert len(before) - len(body) == 2 * 3 * 3  # boxes and classes, levels, stages
    assert np.mean([after[path] for path in body]) < 0.5 * np.mean([before[path] for path in body])
    assert np.mean(list(after.values())) < 0.5 * np.mean(list(before.values()))
    assert healed[1].steps == 30
    assert healed[1].after < healed[1].before


def test_the_neck_comes_closer_to_the_chosen_channels(started, healed):
    student, teacher, report = started
    unseen = _pictures(8, seed=9)
    distances = []
    with torch.no_grad():
        wanted = teacher(unseen)[1]["feats"]
        for model in map(copy.deepcopy, (student, healed[0])):
            estimate_batch_norm(model, _pictures(16, 0))
            found = model(unseen)[1]["feats"]
            pairs = zip(found, wanted, (8, 16, 32), strict=True)
            distances.append([float((f - w[:, report.chosen[s]]).square().mean()) for f, w, s in pairs])
    before, after = distances
    assert all(a < b for a, b in zip(after, before, strict=True))


def test_the_same_seed_heals_the_same_and_nothing_else_changes(started):
    student, teacher, report = started
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    results = []
    for seed in (0, 0, 1):
        model = copy.deepcopy(student)
        model.model[2].requires_grad_(False)
        torch.manual_seed(len(results))
        random = torch.get_rng_state()
        heal(model, teacher, report, _pictures(6, 0), 2, batch=4, seed=seed)
        assert torch.equal(torch.get_rng_state(), random)
        assert not any(module.training for m in (model, teacher) for module in m.modules())
        assert not any(p.requires_grad for p in model.model[2].parameters())
        assert all(p.grad is None for p in model.parameters())
        assert not any(module._forward_hooks for m in (model, teacher) for module in m.modules())
        results.append(model.state_dict())
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())
    assert not all(torch.equal(value, results[2][key]) for key, value in results[0].items())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_no_steps_change_nothing(started):
    student, teacher, report = started
    model = copy.deepcopy(student)
    assert heal(model, teacher, report, _pictures(2, 0), 0).steps == 0
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in student.state_dict().items())
