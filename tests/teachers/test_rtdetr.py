"""An RT-DETR as a teacher: what its decoder says, as a set, as good folded as unfolded."""

from __future__ import annotations

import copy

import pytest
import torch
from made_teachers import drawn
from tiny_rtdetr import live_rtdetr
from torchvision.ops import box_convert

from yolo_distill.teachers.answer import CONF
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.rtdetr import RtdetrTeacher

#: Higher than wide, so that the sides can't be mixed up unseen.
IMAGES = drawn(3, 96, 64)


@pytest.fixture(scope="module")
def model():
    return live_rtdetr()


def test_it_says_what_the_last_layer_of_the_decoder_says_surest_first(model):
    teacher = RtdetrTeacher(model)
    norms = [name for name, layer in teacher.model.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all("input_proj" in name for name in norms)  # the decoder's own, which the host leaves
    answer = teacher(IMAGES)
    with torch.no_grad():
        _, (boxes, logits, *_) = copy.deepcopy(model).eval()(IMAGES)
    boxes, scores = box_convert(boxes[0], "cxcywh", "xyxy") * torch.tensor([64, 96, 64, 96]), logits[0].sigmoid()
    assert answer.boxes.shape[0] == len(IMAGES)
    for i in range(len(IMAGES)):
        order = scores[i].amax(-1).argsort(descending=True)
        order = order[scores[i, order].amax(-1) > CONF]
        assert len(order) > 3
        assert int(answer.present[i].sum()) == len(order)
        torch.testing.assert_close(answer.scores[i, : len(order)], scores[i, order], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(answer.boxes[i, : len(order)], boxes[i, order], rtol=1e-3, atol=1e-2)


def test_names_strides_widths_and_the_maps_that_feed_the_decoder(model):
    teacher = RtdetrTeacher(model)
    assert teacher.names == {0: "round", 1: "square"}
    assert teacher.strides == [8, 16, 32]
    assert teacher.widths == {8: 24, 16: 32, 32: 32}
    seen = []
    own = copy.deepcopy(model)
    own.model[-1].register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    with torch.no_grad():
        own(IMAGES)
    answer = teacher(IMAGES)
    assert {s: tuple(m.shape[-2:]) for s, m in answer.maps.items()} == {8: (12, 8), 16: (6, 4), 32: (3, 2)}
    for ours, theirs in zip(answer.maps.values(), seen, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_queries_that_say_nothing_are_left_out():
    model = live_rtdetr()
    torch.nn.init.constant_(model.model[-1].dec_score_head[-1].bias, -40.0)
    answer = RtdetrTeacher(model)(IMAGES)
    assert (answer.boxes.shape, answer.scores.shape) == ((3, 0, 4), (3, 0, 2))
    assert set(answer.maps) == {8, 16, 32}


def test_what_is_not_needed_is_not_computed(model, monkeypatch):
    assert RtdetrTeacher(model, needs=Needs(maps=False))(IMAGES).maps == {}
    teacher = RtdetrTeacher(model, needs=Needs(scores=False, boxes=False))
    monkeypatch.setattr(teacher.model.model[-1].decoder, "forward", lambda *_: pytest.fail("the decoder was run"))
    answer = teacher(IMAGES)
    assert answer.scores.shape == (3, 0, 2)
    assert set(answer.maps) == {8, 16, 32}


def test_anchors_that_were_kept_in_half_precision_are_made_anew(model):
    used = copy.deepcopy(model)
    with torch.no_grad():
        used(IMAGES)
    used = used.half().float()  # what the host saves, and opens again
    used.load_state_dict(model.state_dict())
    assert torch.equal(RtdetrTeacher(used)(IMAGES).boxes, RtdetrTeacher(model)(IMAGES).boxes)
