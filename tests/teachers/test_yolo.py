"""An Ultralytics detector as a teacher: what it is made of, and only what somebody needs is computed."""

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.teachers.head import NeededHead, Needs
from yolo_distill.teachers.yolo import TorchForward, YoloTeacher


@pytest.fixture(scope="module", params=["yolo26n", "yolov8n"])
def model(request):
    torch.manual_seed(0)
    return DetectionModel(f"{request.param}.yaml", nc=3, verbose=False)


def test_names_strides_widths_and_shapes(model):
    teacher = YoloTeacher(model)
    assert (teacher.names, teacher.strides) == ({0: "0", 1: "1", 2: "2"}, [8, 16, 32])
    assert teacher.widths == {8: 64, 16: 128, 32: 256}
    answer = teacher(torch.rand(2, 3, 64, 96))
    assert {s: tuple(m.shape[1:]) for s, m in answer.maps.items()} == {8: (64, 8, 12), 16: (128, 4, 6), 32: (256, 2, 3)}
    assert answer.one2many.sides.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 4, teacher.reg_max)


def test_its_grid_is_made_once_a_size_and_can_be_learned_with(model):
    teacher = YoloTeacher(model)
    small, large = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        first = teacher.grid(small)
    assert teacher.grid(small) is first
    assert not first[0].is_inference()
    assert teacher.grid(large)[2] == {8: 96, 16: 24, 32: 6}
    assert torch.equal(teacher.grid(small)[0], first[0])


@pytest.mark.parametrize(
    ("needs", "names"),
    [
        (Needs(boxes=False, maps=False, one2one=False), ["scores"]),
        (Needs(maps=False, one2one=False), ["scores", "boxes"]),
        (Needs(scores=False, boxes=False), ["map8", "map16", "map32"]),
    ],
)
def test_only_what_is_needed_is_there(model, needs, names):
    images = torch.rand(1, 3, 64, 64)
    whole, part = YoloTeacher(model), YoloTeacher(model, needs=needs)
    full, answer = whole(images), part(images)
    head = part.forward.model.model[-1]
    assert isinstance(head, NeededHead)
    assert list(part.forward(images)) == head.names == names
    if not needs.boxes:
        sizes = [sum(p.numel() for p in teacher.forward.model.parameters()) for teacher in (part, whole)]
        assert sizes[0] < sizes[1]
    assert (answer.one2many is not None) == needs.scores
    assert answer.one2one is None
    assert list(answer.maps) == ([8, 16, 32] if needs.maps else [])
    if answer.one2many is not None:
        torch.testing.assert_close(answer.one2many.logits, full.one2many.logits)
        assert (answer.one2many.sides is None) == (not needs.boxes)
    for stride, found in answer.maps.items():
        torch.testing.assert_close(found, full.maps[stride])


def test_a_copy_in_another_precision_leaves_the_original_alone(model):
    own = YoloTeacher(model).forward.model
    TorchForward(own, torch.bfloat16)
    assert {p.dtype for p in own.parameters()} == {torch.float32}
