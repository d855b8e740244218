"""What every kind of teacher promises: copied, frozen, alike for a batch and alone, and of use to a loss."""

from __future__ import annotations

import pytest
import torch
from live_detector import live_detector
from made_teachers import drawn, liven
from tiny_rtdetr import live_rtdetr

from yolo_distill.teachers.answer import DenseAnswer
from yolo_distill.teachers.rtdetr import RtdetrTeacher
from yolo_distill.teachers.torchvision_detector import TorchvisionTeacher, make_detector
from yolo_distill.teachers.yolo import YoloTeacher

IMAGES = drawn(3, 96, 64)


@pytest.fixture(scope="module", params=["yolo", "rtdetr", "torchvision"])
def kind(request):
    """Return a model, and a function that makes a teacher of it."""
    if request.param == "yolo":
        return live_detector("yolo26n.yaml"), YoloTeacher
    if request.param == "rtdetr":
        return live_rtdetr(), RtdetrTeacher
    torch.manual_seed(0)
    model = liven(make_detector("fasterrcnn_mobilenet_v3_large_fpn", 2, 96), IMAGES)
    return model, lambda model: TorchvisionTeacher(model, {0: "round", 1: "square"})


def tensors(answer):
    if isinstance(answer, DenseAnswer):
        return [t for branch in answer.branches for t in (branch.logits, branch.sides)] + [*answer.maps.values()]
    return [answer.boxes, answer.scores, *answer.maps.values()]


def test_model_and_random_state_stay_as_they_are(kind):
    model, make = kind
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    teacher = make(model.train())
    answer = teacher(IMAGES)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "dfl" not in name)
    model.eval()
    own = teacher.forward.model if isinstance(teacher, YoloTeacher) else teacher.model
    assert not any(parameter.requires_grad for parameter in own.parameters())
    assert all(torch.equal(*pair) for pair in zip(tensors(answer), tensors(make(model)(IMAGES)), strict=True))


def test_a_loss_can_use_the_answer_and_autocast_does_not_reach_it(kind):
    model, make = kind
    teacher = make(model)
    plain = teacher(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        answer = teacher(IMAGES)
    teacher.wait(answer)
    student = torch.ones(1, requires_grad=True)
    for tensor, expected in zip(tensors(answer), tensors(plain), strict=True):
        assert tensor.dtype == torch.float32
        assert tensor.grad_fn is None
        assert not tensor.is_inference()
        (tensor * student).sum().backward()  # an inference tensor could not be kept for it
        assert torch.equal(tensor, expected)


def test_pictures_are_answered_alike_together_and_alone(kind):
    model, make = kind
    teacher = make(model)
    together, alone = teacher(IMAGES), teacher(IMAGES[1:2])
    for many, one in zip(tensors(together), tensors(alone), strict=True):
        count = one.shape[1]  # boxes that are there, or anchors, or channels
        torch.testing.assert_close(many[1:2, :count], one, rtol=1e-3, atol=1e-3)
    assert not torch.equal(tensors(together)[0][0], tensors(together)[0][1])  # the pictures matter
