"""A teacher that remembers says the same, and is asked once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.engine.classes import match_classes
from yolo_distill.engine.terms import Levels, Terms
from yolo_distill.losses.logit import NOTHING, confidence
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.cached import CachedTeacher, picture_key
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.store import MemoryStore
from yolo_distill.teachers.yolo import YoloTeacher

SIZE = 64


def make_teacher(name="yolo26n", needs=None):
    torch.manual_seed(0)
    model = DetectionModel(f"{name}.yaml", nc=3, verbose=False)
    head = model.model[-1]
    for layers in (head.cv3, getattr(head, "one2one_cv3", None) or []):
        for layer in layers:
            nn.init.normal_(layer[-1].weight, std=0.3)
            nn.init.constant_(layer[-1].bias, -3.0)
    return YoloTeacher(model, needs=needs or Needs(maps=False))


@pytest.mark.parametrize("name", ["yolo26n", "yolov8n", "yolov10n"])
def test_what_a_loss_looks_at_comes_back(name):
    teacher = make_teacher(name)
    images = torch.rand(3, 3, SIZE, 2 * SIZE)
    direct, cached = teacher(images), CachedTeacher(teacher, MemoryStore())
    first, second = cached(images), cached(images)
    assert (cached.asked, cached.found) == (3, 3)
    pairs = [(direct.one2many, first.one2many, second.one2many), (direct.one2one, first.one2one, second.one2one)]
    for expected, one, two in pairs:
        if expected is None:
            assert one is None
            assert two is None
            continue
        assert torch.equal(one.logits, two.logits)
        assert torch.equal(one.sides, two.sides)
        torch.testing.assert_close(one.logits.sigmoid(), expected.logits.sigmoid(), rtol=0, atol=NOTHING)
        picture, anchor = (confidence(expected.logits) > NOTHING).nonzero(as_tuple=True)
        assert len(picture)
        torch.testing.assert_close(two.at((picture, anchor))[2], expected.at((picture, anchor))[2], rtol=2e-3, atol=0.1)
        assert torch.equal(two.anchors, expected.anchors)
        assert torch.equal(two.strides, expected.strides)
    assert second.cells == direct.cells


def test_the_terms_are_the_same():
    teacher, student = make_teacher(), make_teacher("yolo26n")
    images = torch.rand(2, 3, SIZE, SIZE)
    names = {0: "0", 1: "1", 2: "2"}
    terms = Terms(
        make_recipe({"teacher": "-"}), match_classes(names, names), Levels.match([8, 16, 32], [8, 16, 32]),
        nn.ModuleDict(),
    )  # fmt: skip
    learner = student(images.flip(-1))
    expected = terms(learner, teacher(images), 0.8, 0.2, (SIZE, SIZE))
    got = terms(learner, CachedTeacher(teacher, MemoryStore())(images), 0.8, 0.2, (SIZE, SIZE))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=0.01, atol=1e-4)


def test_only_pictures_that_are_new_are_asked_about():
    cached = CachedTeacher(make_teacher(), MemoryStore())
    images = torch.rand(4, 3, SIZE, SIZE)
    cached(images[:2])
    answer = cached(torch.cat([images[1:3], images[3:], images[3:]]))  # known, new, new, the same once more
    assert (cached.asked, cached.found) == (4, 2)
    assert torch.equal(answer.one2many.logits[2], answer.one2many.logits[3])
    assert torch.equal(answer.one2many.logits[0], cached(images[1:2]).one2many.logits[0])


def test_any_change_of_a_picture_is_another_picture():
    picture = torch.rand(3, SIZE, SIZE)
    other = picture.clone()
    other[2, 5, 7] += 1e-3
    keys = {picture_key(p) for p in (picture, other, picture.flip(-1), picture.view(3, SIZE // 2, SIZE * 2))}
    assert len(keys) == 4
    assert picture_key(picture.clone()) == picture_key(picture)


def test_a_picture_without_anything():
    cached = CachedTeacher(make_teacher(), MemoryStore())
    plain = cached._teacher.forward
    cached._teacher.forward = lambda images: {k: v * 0 - 20 for k, v in plain(images).items()}
    images = torch.rand(1, 3, SIZE, SIZE)
    for _ in range(2):
        answer = cached(images)
        assert answer.one2many.logits.sigmoid().max() < NOTHING


def test_without_boxes():
    cached = CachedTeacher(make_teacher(needs=Needs(boxes=False, maps=False)), MemoryStore())
    images = torch.rand(1, 3, SIZE, SIZE)
    cached(images)
    assert cached(images).one2many.sides is None
