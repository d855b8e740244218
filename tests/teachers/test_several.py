"""Several teachers as one: who agrees is believed, who doesn't know a class has no say about it."""

from __future__ import annotations

import sys
from itertools import permutations
from typing import Any

import pytest
import torch
from live_detector import live_detector
from made_teachers import drawn

from yolo_distill.errors import RequestError
from yolo_distill.losses.pkd import pkd_loss
from yolo_distill.teachers.answer import SetAnswer, make_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.several import SeveralTeachers, fuse, unite
from yolo_distill.teachers.yolo import YoloTeacher

fusion = pytest.importorskip("ensemble_boxes", reason="ensemble-boxes joins the boxes: pip install ensemble-boxes")

#: Height and width in pixels; not square, so that the one can't stand for the other.
SIZE = (100, 200)
SETS = Needs(maps=False)
IMAGES = drawn(3, 64, 96)


class Says:
    """A teacher that always says the same: for each picture rows of x1, y1, x2, y2 and a score for each class."""

    def __init__(self, names: str, *pictures: list[list[float]]) -> None:
        self.names = dict(enumerate(names.split(",")))
        self.strides: list[int] = []
        self.widths: dict[int, int] = {}
        self.needs = SETS
        rows = [torch.tensor(picture, dtype=torch.float32).view(-1, 4 + len(self.names)) for picture in pictures]
        self._answer = make_set([r[:, :4] for r in rows], [r[:, 4:] for r in rows], len(self.names))

    def __call__(self, images: torch.Tensor) -> SetAnswer:
        return self._answer

    def wait(self, answer: Any) -> None: ...


def rows(answer: SetAnswer, picture: int = 0) -> torch.Tensor:
    """Return what is there in a picture, box and scores side by side, strongest first."""
    there = answer.present[picture]
    return torch.cat([answer.boxes[picture, there], answer.scores[picture, there]], 1)


def same(answer: SetAnswer, expected: SetAnswer) -> None:
    """Compare two sets, each of whose rows has its own counterpart; equally strong ones may stand in any order."""
    assert answer.present.sum(1).tolist() == expected.present.sum(1).tolist()
    for picture in range(len(answer.boxes)):
        ours, theirs = rows(answer, picture), rows(expected, picture)
        nearest = torch.cdist(ours, theirs, p=torch.inf).argmin(1)
        assert nearest.unique().numel() == len(theirs)
        torch.testing.assert_close(ours, theirs[nearest], rtol=1e-5, atol=1e-3)


def made(seed: int, pictures: int = 2, most: int = 20, classes: int = 3) -> SetAnswer:
    """Return boxes around places that are the same for all seeds, with scores that are not."""
    places, own = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
    corner = torch.rand(pictures, most, 2, generator=places) * torch.tensor([160.0, 60.0])
    boxes = torch.cat([corner, corner + 15 + 25 * torch.rand(pictures, most, 2, generator=places)], -1)
    boxes = boxes + torch.randn(boxes.shape, generator=own)
    there = torch.rand(pictures, most, 1, generator=own) < 0.8
    return SetAnswer(boxes * there, torch.rand(pictures, most, classes, generator=own) * there)


def knows_all(teachers: int) -> torch.Tensor:
    return torch.ones(teachers, 3, dtype=torch.bool)


BOX = [20, 10, 60, 50]
DOG, CAT = Says("cat,dog", [[*BOX, 0.2, 0.6]]), Says("Cat", [[*BOX, 0.5]])


@pytest.mark.parametrize(
    ("teachers", "expected"),
    [
        pytest.param(
            [
                Says("cat,dog", [[20, 10, 60, 50, 0.8, 0.2]]),
                Says("cat,dog", [[24, 10, 64, 50, 0.4, 0.1], [100, 60, 140, 90, 0.3, 0.6]]),
            ],
            # x: (0.8 * 20 + 0.4 * 24) / 1.2; scores: the mean of both, and half of what only one of them sees.
            [[21.3333, 10, 61.3333, 50, 0.6, 0.15], [100, 60, 140, 90, 0.15, 0.3]],
            id="two agree, one is alone",
        ),
        # The dog is as sure as its only judge; that it may be a cat, the second denies. The cat of the second is a
        # cluster of its own, denied by the first.
        pytest.param([DOG, CAT], [[*BOX, 0.1, 0.6], [*BOX, 0.25, 0]], id="who does not know a class has no vote"),
        pytest.param(
            [DOG, CAT, Says("bird", [[150, 10, 190, 40, 0.9]])],
            [[150, 10, 190, 40, 0, 0, 0.9], [*BOX, 0.1, 0.6, 0], [*BOX, 0.25, 0, 0]],
            id="nor has a third",
        ),
        pytest.param(
            [Says("cat", [[*BOX, 0.9], [20, 10, 60, 42, 0.02]]), Says("cat", [])],
            [[*BOX, 0.45]],
            id="a repetition is no second opinion",
        ),
        pytest.param(
            [Says("cat", [[-20, 10, 60, 130, 0.9], [210, 10, 260, 50, 0.8], [50, 20, 50, 40, 0.7]])],
            [[0, 10, 60, 100, 0.9]],
            id="boxes end at the edges",
        ),
        pytest.param(
            [Says("cat", [[*BOX, 0.8]]), Says("dog", [[*BOX, 0.7]])],
            [[*BOX, 0.8, 0], [*BOX, 0, 0.7]],
            id="no class in common",
        ),
    ],
)
def test_what_is_agreed_on(teachers, expected):
    found = SeveralTeachers(teachers, SETS)(torch.zeros(1, 3, *SIZE))
    torch.testing.assert_close(rows(found), torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-3)


def test_nothing_found_by_some_or_by_all():
    sees, blind = Says("cat", [], [[*BOX, 0.8]]), Says("cat", [], [])
    images = torch.zeros(2, 3, *SIZE)
    assert SeveralTeachers([sees, blind], SETS)(images).present.tolist() == [[False], [True]]
    nothing = SeveralTeachers([blind, blind], SETS)(images)
    assert (nothing.boxes.shape, nothing.scores.shape) == ((2, 0, 4), (2, 0, 1))


def test_boxes_and_the_score_of_the_label_are_the_papers():
    """Where each teacher says a thing once, and all know all classes."""
    once = [fuse([made(seed)], knows_all(1), SIZE) for seed in range(3)]
    ours = fuse(once, knows_all(3), SIZE)
    for picture in range(2):
        there = [answer.present[picture] for answer in once]
        scores = [answer.scores[picture, own].max(1) for answer, own in zip(once, there, strict=True)]
        edges = torch.tensor([*SIZE[::-1]] * 2)
        boxes, score, label = fusion.weighted_boxes_fusion(
            [(answer.boxes[picture, own] / edges).numpy() for answer, own in zip(once, there, strict=True)],
            [s.values.numpy() for s in scores],
            [s.indices.numpy() for s in scores],
            iou_thr=0.55,
        )
        theirs = torch.cat([torch.tensor(boxes).float() * edges, torch.tensor(score).float()[:, None]], 1)
        found = rows(ours, picture)
        assert len(found) == len(theirs) > 20
        sure, sure_label = found[:, 4:].max(1)
        torch.testing.assert_close(torch.cat([found[:, :4], sure[:, None]], 1), theirs, rtol=1e-4, atol=1e-3)
        assert sure_label.tolist() == label.tolist()


def test_the_order_of_teachers_does_not_matter_and_scores_are_probabilities():
    answers = [made(seed, most=40) for seed in range(3)]
    first = fuse(answers, knows_all(3), SIZE)
    assert first.scores.min() >= 0
    assert first.scores.max() <= 1
    for order in permutations(answers):
        same(fuse(order, knows_all(3), SIZE), first)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_joined_with_itself_it_is_itself(times):
    once = fuse([made(0)], knows_all(1), SIZE)
    assert once.present.sum() > 20
    same(fuse([once] * times, knows_all(times), SIZE), once)


@pytest.mark.parametrize(
    ("names", "union", "columns"),
    [
        (["cat,dog", "dog,cat"], "cat,dog", [[0, 1], [1, 0]]),
        (["red cell,dog", "bird,Red_Cell"], "red cell,dog,bird", [[0, 1], [2, 0]]),
        (["Cat,cat", "cat"], "Cat,cat", [[0, 1], [1]]),  # the same name before one that is nearly the same
        (["cat", "Cat,CAT"], "cat,CAT", [[0], [0, 1]]),  # two classes of one teacher stay two
        (["a,a", "a,a"], "a,a", [[0, 1], [0, 1]]),
        (["cat", "dog"], "cat,dog", [[0], [1]]),
    ],
)
def test_classes_are_united_by_name(names, union, columns):
    assert unite([dict(enumerate(own.split(","))) for own in names]) == (union.split(","), columns)


@pytest.fixture(scope="module")
def models():
    return live_detector("yolo26n.yaml", ["round", "square"]), live_detector("yolov8n.yaml", ["Square", "star"], seed=5)


def test_yolos_of_different_kinds(models):
    teachers = [YoloTeacher(model) for model in models]
    both = SeveralTeachers(teachers, Needs())
    assert both.names == {0: "round", 1: "square", 2: "star"}
    answer = both(IMAGES)
    assert answer.present.sum() > len(IMAGES)
    # A box of the first alone is no star, one of the second alone nothing round; on squares they can agree.
    by_first, by_second = answer.scores[..., 0] > 0, answer.scores[..., 2] > 0
    assert (by_first | by_second)[answer.present].all()
    assert (by_first & ~by_second).any()
    assert (by_second & ~by_first).any()
    assert both.strides == [8, 16, 32]
    assert both.widths == {s: sum(t.widths[s] for t in teachers) for s in both.strides}
    for stride, found in answer.maps.items():
        assert torch.equal(found, torch.cat([teacher(IMAGES).maps[stride] for teacher in teachers], 1))
    for tensor in (answer.boxes, answer.scores, *answer.maps.values()):
        assert not tensor.requires_grad
        assert not tensor.is_inference()


def test_only_maps(models):
    needs = Needs(scores=False, boxes=False, one2one=False)
    both = SeveralTeachers([YoloTeacher(model, needs=needs) for model in models], needs)
    answer = both(IMAGES)
    assert (answer.boxes.shape, answer.scores.shape) == ((3, 0, 4), (3, 0, 3))
    assert {s: m.shape[1] for s, m in answer.maps.items()} == both.widths


def test_maps_of_those_who_have_them_at_strides_that_all_of_them_share(models):
    first, second = (YoloTeacher(model) for model in models)
    second.widths = {16: second.widths[16], 4: 7}
    both = SeveralTeachers([Says("round", [], [], []), first, second], Needs())
    assert both.strides == list(both(IMAGES).maps) == [16]
    assert both.widths == {16: first.widths[16] + second.widths[16]}
    assert SeveralTeachers([first, second], SETS).widths == {}
    second.widths = {4: 7}
    with pytest.raises(RequestError, match=r"no stride in common \(8, 16, 32 and 4\); use teachers"):
        SeveralTeachers([first, second], Needs())


def test_a_loss_on_joined_maps_is_the_mean_weighted_by_channels():
    teachers = [torch.randn(2, width, 4, 4) for width in (5, 11)]
    students = [torch.randn_like(m) for m in teachers]
    apart = [pkd_loss(s, t) for s, t in zip(students, teachers, strict=True)]
    together = pkd_loss(torch.cat(students, 1), torch.cat(teachers, 1))
    torch.testing.assert_close(together, (5 * apart[0] + 11 * apart[1]) / 16)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensemble_boxes", None)
    with pytest.raises(RequestError, match=r"'ensemble_boxes'.*yolo-distill\[fusion\]"):
        SeveralTeachers([CAT], SETS)
