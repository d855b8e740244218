"""An RT-DETR as a teacher: what its decoder says, as a set; frozen, copied, and as good folded as unfolded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from live_detector import draw
from tiny_rtdetr import live_rtdetr
from torchvision.ops import box_convert

from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.rtdetr import CONF, RtdetrTeacher


@pytest.fixture(scope="module")
def model():
    return live_rtdetr()


@pytest.fixture(scope="module")
def images():
    """Three pictures of 64 x 96, higher than wide, so that the sides can't be mixed up unseen."""
    return torch.from_numpy(np.stack(draw(3, 96, 64)).transpose(0, 3, 1, 2)).float() / 255


def said(model, images):
    """Return boxes in pixels and probabilities of all queries, as the host's own forward pass gives them."""
    with torch.no_grad():
        _, (boxes, logits, *_) = copy.deepcopy(model).eval()(images)
    sides = torch.tensor([images.shape[3], images.shape[2]] * 2)
    return box_convert(boxes[0], "cxcywh", "xyxy") * sides, logits[0].sigmoid()


def test_it_says_what_the_last_layer_of_the_decoder_says_surest_first(model, images):
    answer = RtdetrTeacher(model)(images)
    boxes, scores = said(model, images)
    assert answer.boxes.shape[0] == len(images)
    for i in range(len(images)):
        order = scores[i].amax(-1).argsort(descending=True)
        order = order[scores[i, order].amax(-1) > CONF]
        assert len(order) > 3
        assert int(answer.present[i].sum()) == len(order)
        torch.testing.assert_close(answer.scores[i, : len(order)], scores[i, order], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(answer.boxes[i, : len(order)], boxes[i, order], rtol=1e-3, atol=1e-2)


def test_the_pictures_matter(model, images):
    answer = RtdetrTeacher(model)(images)
    assert (answer.boxes[0] - answer.boxes[1]).abs().max() > 1


def test_queries_that_say_nothing_are_left_out(images):
    model = live_rtdetr()
    torch.nn.init.constant_(model.model[-1].dec_score_head[-1].bias, -40.0)
    answer = RtdetrTeacher(model)(images)
    assert answer.boxes.shape == (3, 0, 4)
    assert answer.scores.shape == (3, 0, 2)
    assert set(answer.maps) == {8, 16, 32}


def test_the_model_it_was_made_from_stays_as_it_is(model, images):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    RtdetrTeacher(model)(images)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_it_is_folded_and_frozen(model):
    teacher = RtdetrTeacher(model.train())
    model.eval()
    norms = [name for name, layer in teacher.model.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all("input_proj" in name for name in norms)  # the decoder's own, which the host leaves
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not any(layer.training for layer in teacher.model.modules())


def test_a_loss_can_use_the_answer(model, images):
    teacher = RtdetrTeacher(model)
    with torch.autocast("cpu", torch.bfloat16):
        answer = teacher(images)
    weight = torch.ones(1, requires_grad=True)
    for tensor in (answer.boxes, answer.scores, *answer.maps.values()):
        assert tensor.dtype == torch.float32
        assert tensor.grad_fn is None
        assert not tensor.is_inference()
        (tensor * weight).sum().backward()  # an inference tensor could not be kept for it
    teacher.wait(answer)


def test_it_answers_for_any_size_of_batch_and_the_same_twice(model, images):
    teacher = RtdetrTeacher(model)
    together = teacher(images)
    assert torch.equal(together.scores, teacher(images).scores)
    alone = teacher(images[1:2])
    count = int(alone.present.sum())
    torch.testing.assert_close(together.scores[1, :count], alone.scores[0], rtol=1e-4, atol=1e-5)


def test_it_does_not_touch_the_random_state(model, images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RtdetrTeacher(model)(images)
    assert torch.equal(torch.rand(3), expected)


def test_names_strides_widths_and_the_maps_that_feed_the_decoder(model, images):
    teacher = RtdetrTeacher(model)
    assert teacher.names == {0: "round", 1: "square"}
    assert teacher.strides == [8, 16, 32]
    assert teacher.widths == {8: 24, 16: 32, 32: 32}
    seen = []
    own = copy.deepcopy(model)
    own.model[-1].register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    with torch.no_grad():
        own(images)
    answer = teacher(images)
    assert {s: tuple(m.shape[-2:]) for s, m in answer.maps.items()} == {8: (12, 8), 16: (6, 4), 32: (3, 2)}
    for ours, theirs in zip(answer.maps.values(), seen, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_what_is_not_needed_is_not_computed(model, images, monkeypatch):
    assert RtdetrTeacher(model, needs=Needs(maps=False))(images).maps == {}
    teacher = RtdetrTeacher(model, needs=Needs(scores=False, boxes=False))
    monkeypatch.setattr(teacher.model.model[-1].decoder, "forward", lambda *_: pytest.fail("the decoder was run"))
    answer = teacher(images)
    assert answer.scores.shape == (3, 0, 2)
    assert set(answer.maps) == {8, 16, 32}


def test_anchors_that_were_kept_in_half_precision_are_made_anew(model, images):
    expected = RtdetrTeacher(model)(images)
    used = copy.deepcopy(model)
    with torch.no_grad():
        used(images)
    used = used.half().float()  # what the host saves, and opens again
    for ours, theirs in zip(used.parameters(), model.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    for ours, theirs in zip(used.buffers(), model.buffers(), strict=True):
        ours.data.copy_(theirs.data)
    assert torch.equal(RtdetrTeacher(used)(images).boxes, expected.boxes)
