"""What channels are worth."""

import pytest
import torch
from live_detector import live_detector
from ultralytics.cfg import get_cfg

from yolo_distill.initialization.channel_saliency import importance_scores, norm_scores

LAYER = "model.4.cv1"


@pytest.fixture
def model():
    return live_detector("yolov8n.yaml").eval()


@pytest.fixture(scope="module")
def batch():
    return {
        "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.3], [0.3, 0.6, 0.2, 0.2]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }


def test_norms_grow_with_filter_and_scale(model):
    before = norm_scores(model)[f"{LAYER}.conv"]
    layer = model.get_submodule(LAYER)
    layer.conv.weight.data[3] *= 2
    layer.bn.weight.data[5] *= -3
    after = norm_scores(model)[f"{LAYER}.conv"]
    growth = after / before / (after[0] / before[0])
    assert [growth[at].item() for at in (3, 5, 7)] == pytest.approx([2, 3, 1], rel=1e-4)
    assert after.mean().item() == pytest.approx(1, rel=1e-4)


def test_it_does_not_matter_where_a_layer_has_its_scale(model):
    before = norm_scores(model)[f"{LAYER}.conv"]
    layer = model.get_submodule(LAYER)
    layer.conv.weight.data[3] *= 10
    layer.bn.running_var[3] *= 100
    torch.testing.assert_close(norm_scores(model)[f"{LAYER}.conv"], before, rtol=1e-2, atol=0)


def test_importance_is_the_change_of_the_loss(model, batch):
    score = importance_scores(model, [batch])[f"{LAYER}.conv"]
    probe = live_detector("yolov8n.yaml").eval()
    probe.args = get_cfg()
    norm = probe.get_submodule(LAYER).bn
    losses = []
    for gate in (1.01, 0.99):
        scale = torch.ones(norm.num_features)
        scale[score.argmax()] = gate
        with torch.no_grad():
            weight, bias = norm.weight.clone(), norm.bias.clone()
            norm.weight *= scale
            norm.bias *= scale
            losses.append(float(probe.loss(batch)[0].sum()))
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)
    assert score.max().item() == pytest.approx(abs(losses[0] - losses[1]) / 0.02, rel=0.05)


def test_a_silent_channel_is_worth_nothing(model, batch):
    norm = model.get_submodule(LAYER).bn
    norm.weight.data[2] = norm.bias.data[2] = 0
    score = importance_scores(model, [batch, batch])[f"{LAYER}.conv"]
    assert score[2] == 0
    assert (score > 0).sum() > len(score) / 2
    assert norm_scores(model)[f"{LAYER}.conv"][2] == 0


def test_the_model_stays_as_it_is(model, batch):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.args = {"box": 7.5}  # as a checkpoint has them
    importance_scores(model, [batch])
    assert model.args == {"box": 7.5}
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
