"""A teacher that looks twice says the mirrored thing about a mirrored picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from live_detector import draw, live_detector

from yolo_distill.errors import RequestError
from yolo_distill.losses.logit import NOTHING
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, SetAnswer
from yolo_distill.teachers.cached import CachedTeacher
from yolo_distill.teachers.flipped import FlippedToo, mean_answer, mirror_dense, mirror_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.several import SeveralTeachers
from yolo_distill.teachers.store import MemoryStore
from yolo_distill.teachers.yolo import YoloTeacher

#: Height and width in pixels; not square, so that the one can't stand for the other.
HEIGHT, WIDTH = 64, 96
ALL = (slice(None), slice(None))


@pytest.fixture(scope="module", params=["yolo26n", "yolov8n"])  # distances and bins; one and two branches
def model(request):
    return live_detector(f"{request.param}.yaml")


@pytest.fixture(scope="module")
def pictures():
    return torch.from_numpy(np.stack(draw(3, HEIGHT, WIDTH)).transpose(0, 3, 1, 2)).float() / 255


def branches(answer):
    return [branch for branch in (answer.one2many, answer.one2one) if branch is not None]


def equal(answer, expected):
    assert list(answer.maps) == list(expected.maps)
    assert answer.cells == expected.cells
    for stride, found in answer.maps.items():
        assert torch.equal(found, expected.maps[stride])
    assert len(branches(answer)) == len(branches(expected))
    for ours, theirs in zip(branches(answer), branches(expected), strict=True):
        for name in ("logits", "anchors", "strides"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert (ours.sides is None) == (theirs.sides is None)
        assert ours.sides is None or torch.equal(ours.sides, theirs.sides)


@pytest.mark.parametrize(
    "needs", [Needs(), Needs(boxes=False, maps=False), Needs(scores=False, boxes=False, one2one=False)]
)
def test_the_answer_to_a_mirrored_picture_is_the_mirrored_answer(model, pictures, needs):
    """To the last bit."""
    teacher = FlippedToo(YoloTeacher(model, needs=needs))
    straight, mirrored = teacher(pictures), teacher(pictures.flip(-1))
    equal(mirrored, mirror_dense(straight, WIDTH))
    equal(straight, mirror_dense(mirrored, WIDTH))
    tensors = [t for b in branches(straight) for t in vars(b).values() if t is not None]
    for tensor in (*tensors, *straight.maps.values()):
        assert not tensor.requires_grad
        assert not tensor.is_inference()


def test_also_for_real_pictures(model, shared_data):
    files = sorted((shared_data / "bccd").rglob("*.jpg"))[:2]
    assert files
    views = np.stack([cv2.resize(cv2.imread(str(file)), (WIDTH, HEIGHT)) for file in files])
    images = torch.from_numpy(views[..., ::-1].transpose(0, 3, 1, 2).copy()).float() / 255
    teacher = FlippedToo(YoloTeacher(model))
    equal(teacher(images.flip(-1)), mirror_dense(teacher(images), WIDTH))


def test_it_is_the_mean_of_two_views(model, pictures):
    teacher = YoloTeacher(model)
    once, twice = teacher(pictures), FlippedToo(teacher)(pictures)
    assert not torch.equal(once.one2many.logits, twice.one2many.logits)
    back = teacher(pictures.flip(-1))
    torch.testing.assert_close(twice.maps[8], (once.maps[8] + back.maps[8].flip(-1)) / 2)
    # The first cell of the first row, and the last of it in the mirror image.
    last = WIDTH // 8 - 1
    for many, one, other in zip(branches(twice), branches(once), branches(back), strict=True):
        torch.testing.assert_close(many.logits[:, 0], (one.logits[:, 0] + other.logits[:, last]) / 2)
        for side, mirrored in ((0, 2), (1, 1), (2, 0), (3, 3)):
            expected = (one.sides[:, 0, side] + other.sides[:, last, mirrored]) / 2
            torch.testing.assert_close(many.sides[:, 0, side], expected)


def test_mirrored_boxes_are_boxes_in_the_mirror(model, pictures):
    answer = YoloTeacher(model)(pictures)
    for own, seen in zip(branches(answer), branches(mirror_dense(answer, WIDTH)), strict=True):
        boxes, mirrored = own.at(ALL)[2], seen.at(ALL)[2]
        expected = torch.stack([WIDTH - boxes[..., 2], boxes[..., 1], WIDTH - boxes[..., 0], boxes[..., 3]], -1)
        # Anchors have other numbers in the mirror; each row of the first level is turned round.
        rows, columns = HEIGHT // 8, WIDTH // 8
        first = expected[:, : rows * columns].view(-1, rows, columns, 4).flip(2).flatten(1, 2)
        torch.testing.assert_close(mirrored[:, : rows * columns], first, rtol=1e-5, atol=1e-3)
        assert mirrored.sum() == pytest.approx(float(expected.sum()), rel=1e-4)


def test_the_mean_with_itself_is_itself(model, pictures):
    answer = YoloTeacher(model)(pictures)
    equal(mean_answer(answer, answer), answer)


def test_a_level_that_a_mirror_does_not_map_onto_itself():
    branch = DenseBranch(torch.zeros(1, 6, 1), None, torch.zeros(6, 2), torch.zeros(6, 1))
    with pytest.raises(RequestError, match=r"96 px wide.*stride 64; use an imgsz that is a multiple of 64"):
        mirror_dense(DenseAnswer(branch, None, {}, {32: 3, 64: 2}), 96)


def test_sets(model, pictures):
    pytest.importorskip("ensemble_boxes")
    teacher = FlippedToo(SeveralTeachers([YoloTeacher(model)], Needs()))
    straight, mirrored = teacher(pictures), mirror_set(teacher(pictures.flip(-1)), WIDTH)
    assert straight.present.sum() > len(pictures)
    assert straight.present.sum(1).tolist() == mirrored.present.sum(1).tolist()
    for picture, there in enumerate(straight.present):
        ours, theirs = (torch.cat([a.boxes, a.scores], -1)[picture, there] for a in (straight, mirrored))
        nearest = torch.cdist(ours, theirs, p=torch.inf).argmin(1)
        torch.testing.assert_close(ours, theirs[nearest], rtol=1e-4, atol=1e-3)
    for stride, found in straight.maps.items():
        assert torch.equal(found, mirrored.maps[stride])


def test_a_mirrored_set():
    answer = SetAnswer(
        torch.tensor([[[10.0, 5, 30, 25], [0, 0, 0, 0]]]), torch.tensor([[[0.5], [0.0]]]), {8: torch.arange(3.0)[None]}
    )
    found = mirror_set(answer, WIDTH)
    assert found.boxes.tolist() == [[[66, 5, 86, 25], [0, 0, 0, 0]]]
    assert found.present.tolist() == [[True, False]]
    assert found.maps[8].tolist() == [[2, 1, 0]]


def test_it_says_of_itself_what_its_teacher_says(model, pictures):
    inner = YoloTeacher(model, needs=Needs(maps=False))
    teacher = FlippedToo(inner)
    for name in ("names", "strides", "widths", "needs", "has_one2one", "classes", "reg_max"):
        assert getattr(teacher, name) == getattr(inner, name)
    for name in ("forward", "of_batch", "nmaes"):  # what would go past it, and what nobody has
        assert not hasattr(teacher, name)
    kept = CachedTeacher(teacher, MemoryStore())
    kept(pictures)
    answer, expected = kept(pictures), teacher(pictures)
    assert kept.found == len(pictures)
    torch.testing.assert_close(
        answer.one2many.logits.sigmoid(), expected.one2many.logits.sigmoid(), rtol=0, atol=NOTHING
    )
    pytest.importorskip("ensemble_boxes")
    assert not hasattr(FlippedToo(SeveralTeachers([inner], Needs(maps=False))), "has_one2one")
