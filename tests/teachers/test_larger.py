"""A teacher that sees larger pictures says where things are in the student's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from live_detector import draw, live_detector

from yolo_distill.distillation.terms import Levels
from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import as_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.larger import AtLargerSize
from yolo_distill.teachers.yolo import YoloTeacher

#: Height and width of the teacher's pictures.
LARGE = (64, 128)
ALL = (slice(None), slice(None))


class Other:
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


@pytest.fixture(scope="module", params=["yolo26n", "yolov8n"])  # distances and bins; one and two branches
def model(request):
    return live_detector(f"{request.param}.yaml")


@pytest.fixture
def teacher(model):
    return YoloTeacher(model)


@pytest.fixture(scope="module")
def large():
    return torch.from_numpy(np.stack(draw(2, *LARGE)).transpose(0, 3, 1, 2)).float() / 255


def branches(answer):
    return [branch for branch in (answer.one2many, answer.one2one) if branch is not None]


def test_at_the_same_size_it_is_the_teacher(teacher, large):
    same = AtLargerSize(teacher, 128, 128)
    assert (same.names, same.strides, same.widths) == (teacher.names, teacher.strides, teacher.widths)
    expected = teacher(large)
    for answer in (same(large), same.of_large(large)):
        assert answer.cells == expected.cells
        assert list(answer.maps) == list(expected.maps)
        assert all(torch.equal(m, expected.maps[s]) for s, m in answer.maps.items())
        for ours, theirs in zip(branches(answer), branches(expected), strict=True):
            for name in ("logits", "sides", "anchors", "strides"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("ratio", [2, 4])
def test_boxes_are_the_teachers_in_the_students_pixels(teacher, large, ratio):
    half = AtLargerSize(teacher, 128, 128 // ratio)
    answer, expected = half.of_large(large), teacher(large)
    assert half.strides == [8 // ratio, 16 // ratio, 32 // ratio]
    assert half.widths == dict(zip(half.strides, teacher.widths.values(), strict=True))
    assert answer.cells == dict(zip(half.strides, expected.cells.values(), strict=True))
    for ours, theirs in zip(branches(answer), branches(expected), strict=True):
        assert torch.equal(ours.logits, theirs.logits)
        assert torch.equal(ours.at(ALL)[1], theirs.at(ALL)[1] / ratio)
        assert torch.equal(ours.at(ALL)[2], theirs.at(ALL)[2] / ratio)
    for own, (stride, found) in zip(teacher.strides, answer.maps.items(), strict=True):
        assert stride == own // ratio
        assert torch.equal(found, expected.maps[own])


def test_levels_that_student_and_teacher_share_have_the_students_anchors(teacher, large):
    """Of the teacher's levels, those of half the stride."""
    answer = AtLargerSize(teacher, 128, 64).of_large(large)
    levels = Levels.match([8, 16, 32], [4, 8, 16])
    kept = levels.keep(answer)
    anchors, strides, cells = teacher.grid(large[..., ::2, ::2])  # the student's, had it the teacher's head
    shared = cells[8] + cells[16]
    assert kept.cells == {8: cells[8], 16: cells[16]}
    assert torch.equal(kept.one2many.anchors, anchors[:shared])
    assert torch.equal(kept.one2many.strides, strides[:shared])
    assert {s: tuple(m.shape[-2:]) for s, m in kept.maps.items()} == {8: (4, 8), 16: (2, 4)}


def test_levels_between_the_pixels_are_left_out(teacher, large):
    few = AtLargerSize(teacher, 256, 16)  # stride 8 would be half a pixel
    answer, expected = few.of_large(large), teacher(large)
    assert few.strides == list(answer.cells) == list(answer.maps) == [1, 2]
    first = expected.cells[8]
    for ours, theirs in zip(branches(answer), branches(expected), strict=True):
        assert torch.equal(ours.logits, theirs.logits[:, first:])
        assert torch.equal(ours.at(ALL)[2], theirs.at(ALL)[2][:, first:] / 16)
        assert ours.strides.unique().tolist() == [1, 2]


def test_strides_that_come_out_whole_do_so_exactly(teacher, large):
    answer = AtLargerSize(teacher, 640, 480).of_large(large)
    assert answer.one2many.strides.unique().tolist() == [6, 12, 24]


def test_small_pictures_are_enlarged(teacher, large):
    seen = []
    plain = teacher.forward
    teacher.forward = lambda images: seen.append(images) or plain(images)
    small = large[..., ::2, ::2]
    answer = AtLargerSize(teacher, 128, 64)(small)
    assert seen[0].shape == large.shape
    assert seen[0].mean() == pytest.approx(float(small.mean()), abs=1e-3)
    assert answer.cells == {4: 128, 8: 32, 16: 8}


def test_sets(model, large):
    teacher = InSets(YoloTeacher(model, needs=Needs(maps=False)))
    expected = teacher(large)
    assert expected.present.any()
    for imgsz, ratio in ((64, 2), (96, 4 / 3), (100, 1.28)):
        answer = AtLargerSize(teacher, 128, imgsz).of_large(large)
        torch.testing.assert_close(answer.boxes, expected.boxes / ratio)
        assert torch.equal(answer.scores, expected.scores)


def test_maps_of_sets(teacher, large):
    half = AtLargerSize(InSets(teacher), 128, 64)
    assert half.strides == list(half.of_large(large).maps) == [4, 8, 16]


def test_nothing_has_a_graph_or_an_inference_mode(teacher, large):
    answer = AtLargerSize(teacher, 128, 64)(large[..., ::2, ::2])
    tensors = [t for branch in branches(answer) for t in vars(branch).values() if t is not None]
    for tensor in (*tensors, *answer.maps.values()):
        assert not tensor.requires_grad
        assert not tensor.is_inference()


MISFIT = r"teacher_imgsz=960 is 1\.5 times imgsz=640: no level.*\(stride 8, 16, 32\).*such as 1280"


def test_a_size_that_leaves_a_dense_teacher_nothing(model):
    for needs in (Needs(), Needs(maps=False)):
        with pytest.raises(RequestError, match=MISFIT):
            AtLargerSize(YoloTeacher(model, needs=needs), 960, 640)


def test_said_with_the_first_answer_where_it_is_not_known_before(model, large):
    larger = AtLargerSize(Other(YoloTeacher(model, needs=Needs(maps=False))), 960, 640)
    with pytest.raises(RequestError, match=MISFIT):
        larger.of_large(large)


def test_a_size_that_leaves_a_teacher_in_sets_no_maps(model):
    with pytest.raises(RequestError, match=MISFIT):
        AtLargerSize(InSets(YoloTeacher(model)), 960, 640)


def test_a_smaller_size(teacher):
    with pytest.raises(RequestError, match=r"teacher_imgsz=320 is smaller than imgsz=640; leave it out.*such as 1280"):
        AtLargerSize(teacher, 320, 640)
