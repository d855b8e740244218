"""A teacher that sees larger pictures says where things are in the student's."""

from __future__ import annotations

import pytest
import torch
from live_detector import live_detector
from made_teachers import drawn

from yolo_distill.distillation.terms import Levels
from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import as_set, make_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.larger import AtLargerSize
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher

ALL = (slice(None), slice(None))
#: As the teacher sees them.
IMAGES = drawn(2, 64, 128)


class Other(Teacher):
    """A teacher that answers as a YOLO does and is none."""

    def __init__(self, teacher: YoloTeacher) -> None:
        self.teacher, self.needs = teacher, teacher.needs
        self.names, self.strides, self.widths = teacher.names, teacher.strides, teacher.widths

    def __call__(self, images):
        return self.teacher(images)

    def wait(self, answer): ...


class InSets(Other):
    """A teacher's answers as sets, with its maps."""

    def __call__(self, images):
        return as_set(self.teacher(images))


class Pointing(Other):
    """A set with a keypoint."""

    task, kpt_shape = "pose", (1, 3)

    def __call__(self, images):
        points = [torch.tensor([[[40.0, 20.0, 0.9]]])] * len(images)
        return make_set([torch.ones(1, 4)] * len(images), [torch.ones(1, 80)] * len(images), 80, None, points)


@pytest.fixture(scope="module", params=["yolo26n", "yolov8n"])  # distances and bins; one and two branches
def model(request):
    return live_detector(f"{request.param}.yaml")


@pytest.fixture
def teacher(model):
    return YoloTeacher(model)


@pytest.mark.parametrize(
    ("teacher_imgsz", "imgsz", "left"),
    [
        (128, 128, {8: 8, 16: 16, 32: 32}),
        (128, 64, {8: 4, 16: 8, 32: 16}),
        (128, 32, {8: 2, 16: 4, 32: 8}),
        (640, 480, {8: 6, 16: 12, 32: 24}),
        (256, 16, {16: 1, 32: 2}),  # stride 8 would be half a pixel
    ],
)
def test_boxes_are_the_teachers_in_the_students_pixels(teacher, teacher_imgsz, imgsz, left):
    larger, ratio = AtLargerSize(teacher, teacher_imgsz, imgsz), teacher_imgsz / imgsz
    answer, expected = larger.of_large(IMAGES), teacher(IMAGES)
    assert larger.strides == list(answer.cells) == list(answer.maps) == list(left.values())
    assert larger.widths == {own: teacher.widths[s] for s, own in left.items()}
    assert list(answer.cells.values()) == [expected.cells[s] for s in left]
    first = sum(expected.cells.values()) - sum(answer.cells.values())
    for ours, theirs in zip(answer.branches, expected.branches, strict=True):
        assert torch.equal(ours.logits, theirs.logits[:, first:])
        assert ours.strides.unique().tolist() == list(left.values())  # exactly
        for own, other in zip(ours.at(ALL)[1:], theirs.at(ALL)[1:], strict=True):
            torch.testing.assert_close(own, other[:, first:] / ratio, rtol=1e-6, atol=1e-5)
    for s, own in left.items():
        assert torch.equal(answer.maps[own], expected.maps[s])
    for tensor in (t for branch in answer.branches for t in vars(branch).values() if t is not None):
        assert not tensor.requires_grad
        assert not tensor.is_inference()


def test_keypoints_of_a_set_are_in_the_students_pixels(teacher):
    larger = AtLargerSize(Pointing(teacher), 128, 64)
    torch.testing.assert_close(larger.of_large(IMAGES).extra[0, 0, 0], torch.tensor([20.0, 10.0, 0.9]))
    assert larger.task == "pose"  # by which it is seen what it teaches


def test_levels_that_student_and_teacher_share_have_the_students_anchors(teacher):
    """Of the teacher's levels, those of half the stride."""
    answer = AtLargerSize(teacher, 128, 64).of_large(IMAGES)
    kept = answer.keep(Levels.match([8, 16, 32], [4, 8, 16]).common)
    anchors, strides, cells = teacher.grid(IMAGES[..., ::2, ::2])  # the student's, had it the teacher's head
    shared = cells[8] + cells[16]
    assert kept.cells == {8: cells[8], 16: cells[16]}
    assert torch.equal(kept.one2many.anchors, anchors[:shared])
    assert torch.equal(kept.one2many.strides, strides[:shared])
    assert {s: tuple(m.shape[-2:]) for s, m in kept.maps.items()} == {8: (4, 8), 16: (2, 4)}


def test_small_pictures_are_enlarged(teacher):
    seen = []
    plain = teacher.forward
    teacher.forward = lambda images: seen.append(images) or plain(images)
    small = IMAGES[..., ::2, ::2]
    answer = AtLargerSize(teacher, 128, 64).of_batch({"img": small})
    assert seen[0].shape == IMAGES.shape
    assert seen[0].mean() == pytest.approx(float(small.mean()), abs=1e-3)
    assert answer.cells == {4: 128, 8: 32, 16: 8}


@pytest.mark.parametrize(("imgsz", "ratio"), [(64, 2), (96, 4 / 3), (100, 1.28)])
def test_sets(model, imgsz, ratio):
    teacher = InSets(YoloTeacher(model, needs=Needs(maps=False)))
    answer, expected = AtLargerSize(teacher, 128, imgsz).of_large(IMAGES), teacher(IMAGES)
    assert expected.present.any()
    torch.testing.assert_close(answer.boxes, expected.boxes / ratio)
    assert torch.equal(answer.scores, expected.scores)
    half = AtLargerSize(InSets(YoloTeacher(model)), 128, 64)
    assert half.strides == list(half.of_large(IMAGES).maps) == [4, 8, 16]


def test_sizes_that_are_refused(model):
    misfit = r"teacher_imgsz=960 is 1\.5 times imgsz=640: no level.*\(stride 8, 16, 32\).*such as 1280"
    silent = YoloTeacher(model, needs=Needs(maps=False))
    for teacher in (YoloTeacher(model), silent, InSets(YoloTeacher(model))):
        with pytest.raises(RequestError, match=misfit):
            AtLargerSize(teacher, 960, 640)
    later = AtLargerSize(Other(silent), 960, 640)  # that it answers densely is not known before
    with pytest.raises(RequestError, match=misfit):
        later.of_large(IMAGES)
    with pytest.raises(RequestError, match=r"teacher_imgsz=320 is smaller than imgsz=640; leave it out.*such as 1280"):
        AtLargerSize(silent, 320, 640)
