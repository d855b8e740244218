"""Labels out of what a teacher is sure of, for pictures that have none."""

from __future__ import annotations

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.data.mixed_batches import LABELLED
from yolo_distill.distillation.pseudo_labels import with_pseudo_labels
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import make_set
from yolo_distill.teachers.yolo import YoloTeacher

SAME = match_classes({0: "a", 1: "b"}, {0: "a", 1: "b"})


def batch_of(labelled, boxes=()):
    """A batch of pictures of 100 x 200 pixels; boxes as picture, class, x, y, w, h."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6)
    return {
        "img": torch.zeros(len(labelled), 3, 100, 200),
        "batch_idx": rows[:, 0],
        "cls": rows[:, 1:2],
        "bboxes": rows[:, 2:],
        LABELLED: tuple(labelled),
    }


def answer_of(*pictures):
    """A set of boxes: each picture a list of four corners and two scores."""
    rows = [torch.tensor(one, dtype=torch.float32).reshape(-1, 6) for one in pictures]
    return make_set([r[:, :4] for r in rows], [r[:, 4:] for r in rows], 2)


def test_sure_boxes_of_unlabelled_pictures_are_labels():
    labelled = [2.0, 0.0, 0.5, 0.5, 0.1, 0.1]
    batch = batch_of([False, False, True], [labelled])
    answer = answer_of(
        [[20, 10, 60, 50, 0.1, 0.8], [0, 0, 200, 100, 0.3, 0.2]],  # one sure, one not
        [],
        [[0, 0, 50, 50, 0.9, 0.0]],  # has labels of its own
    )
    made = with_pseudo_labels(batch, answer, SAME, 0.5)
    assert made[LABELLED] == (True, True, True)
    assert made["batch_idx"].tolist() == [0, 2]  # pictures in order, as the host's loss wants them
    assert made["cls"].tolist() == [[1.0], [0.0]]
    torch.testing.assert_close(made["bboxes"], torch.tensor([[0.2, 0.3, 0.2, 0.4], labelled[2:]]))
    assert len(batch["cls"]) == 1  # what was given stays


def test_boxes_end_where_the_picture_does_and_classes_are_the_students():
    classes = match_classes({0: "a", 1: "b"}, {0: "b", 1: "z"})
    boxes = [[-20, 50, 60, 150, 0.9, 0.0], [50, 50, 90, 90, 0.0, 0.9]]  # of b, and of what the student has not
    made = with_pseudo_labels(batch_of([False]), answer_of(boxes), classes, 0.5)
    assert made["cls"].tolist() == [[1.0]]
    torch.testing.assert_close(made["bboxes"], torch.tensor([[0.15, 0.75, 0.3, 0.5]]))


def test_a_batch_of_labelled_pictures_stays_as_it_is():
    batch = batch_of([True], [[0, 1, 0.5, 0.5, 0.2, 0.2]])
    made = with_pseudo_labels(batch, answer_of([[0, 0, 50, 50, 0.9, 0.0]]), SAME, 0.5)
    assert all(made[key] is batch[key] for key in batch)


@pytest.mark.parametrize("architecture", ["yolo26n.yaml", "yolo11n.yaml"])
def test_the_hosts_loss_takes_what_a_yolo_says(architecture):
    model = DetectionModel(architecture, nc=2, verbose=False)
    model.args = get_cfg()
    images = torch.rand(3, 3, 64, 64)
    batch = {**batch_of([True, False, False], [[0, 1, 0.5, 0.5, 0.2, 0.2]]), "img": images}
    teacher = YoloTeacher(model)
    answer = teacher(images)
    scores = (answer.one2one or answer.one2many).logits.sigmoid().amax(-1)
    conf = float(scores[1:].flatten().topk(5).values[-1])  # all scores of an untrained model are low
    made = with_pseudo_labels(batch, answer, SAME, conf * 0.999)
    assert set(made["batch_idx"].tolist()) >= {0}
    assert len(made["cls"]) > 1
    assert (made["bboxes"] >= 0).all()
    loss, _ = model.train().loss(made, model(images))
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [({"localization": 0}, "asked for no boxes with localization=0"), ({"match": "some"}, "would count as background")],
)
def test_what_it_does_not_go_with(given, message):
    with pytest.raises(RequestError, match=message):
        make_recipe({"teacher": "-", "unlabeled": "pictures", "unlabeled_conf": 0.5, **given})
