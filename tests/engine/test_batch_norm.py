"""Batch-norm statistics from pictures."""

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.engine.batch_norm import estimate_batch_norm

PICTURES = torch.rand(10, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_moments_of_all_pictures_whatever_the_batch(batch):
    norm = nn.BatchNorm2d(3, momentum=0.03)
    estimate_batch_norm(nn.Sequential(norm), PICTURES, batch)
    torch.testing.assert_close(norm.running_mean, PICTURES.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, PICTURES.var((0, 2, 3), unbiased=False))


def test_a_detector_then_answers_as_with_the_moments_of_the_batch():
    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", nc=2, verbose=False)
    with torch.no_grad():
        wanted = model.train()(PICTURES)
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.uniform_(-1, 1)  # somebody else's
        far = model.eval()(PICTURES)[1]
        estimate_batch_norm(model, PICTURES, batch=len(PICTURES))
        near = model(PICTURES)[1]
    for branch in ("one2many", "one2one"):
        torch.testing.assert_close(near[branch]["scores"], wanted[branch]["scores"], rtol=1e-3, atol=1e-3)
        assert (far[branch]["scores"] - wanted[branch]["scores"]).abs().max() > 0.1


def test_nothing_else_changes():
    model = DetectionModel("yolov8n.yaml", nc=2, verbose=False).eval()
    model.model[3].train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    estimate_batch_norm(model, PICTURES, batch=4)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert {norm.momentum for norm in norms} == {0.03}
    assert not any(module._forward_pre_hooks for module in model.modules())
    changed = {
        key.rpartition(".")[2] for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"running_mean", "running_var"}
