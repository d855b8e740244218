"""A set of boxes on the student's anchors: by the host's own assigner, and nowhere else than inside the boxes."""

from __future__ import annotations

import pytest
import torch
from test_terms import SIZE, STRIDES, head_output
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation.anchor_assignment import SetAssignment
from yolo_distill.distillation.terms import Levels, Terms
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import SetAnswer, as_set, make_set, read_head
from yolo_distill.vocabulary import TERMS

NAMES = {0: "a", 1: "b"}
BOXES = torch.tensor([[4.0, 4.0, 28.0, 28.0], [34.0, 30.0, 60.0, 62.0]])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def criterion_of(name: str, nc: int = 2):
    model = DetectionModel(name, nc=nc, verbose=False)
    model.args = get_cfg()
    return model.init_criterion()


@pytest.fixture(scope="module")
def end2end():
    return criterion_of("yolo26n.yaml")


def set_of(*scores: list[float]) -> SetAnswer:
    """Return a set of boxes for the first of two pictures, with these class vectors; the other has none."""
    vectors = torch.tensor(scores)
    none = torch.zeros(0, 4), torch.zeros(0, vectors.shape[1])
    return make_set([BOXES[: len(vectors)], none[0]], [vectors, none[1]], vectors.shape[1])


def make_terms(classes, **gains) -> Terms:
    recipe = make_recipe({"teacher": "-", **dict.fromkeys(TERMS, 0), **gains})
    return Terms(recipe, classes, Levels.match(STRIDES, STRIDES), torch.nn.ModuleDict())


def test_anchors_get_box_and_class_vector_of_what_they_lie_in(end2end):
    student = read_head(head_output(2, end2end=True), STRIDES, 1)
    laid = SetAssignment(end2end, match_classes(NAMES, NAMES), 0.05)(student, set_of([0.9, 0.3], [0.2, 0.8]))
    for branch, most in ((laid.one2many, 10), (laid.one2one, 1)):
        taught = branch.taught
        assert not taught[1].any()
        index = taught[0].nonzero().squeeze(-1)
        assert 1 <= len(index) <= 2 * most
        boxes = branch.at((torch.zeros_like(index), index))[2]
        distance = (boxes.unsqueeze(1) - BOXES).abs().amax(-1)
        assert distance.amin(1).max() < 1e-4
        points = branch.anchors[index] * branch.strides[index]
        for point, box, logits in zip(points, BOXES[distance.argmin(1)], branch.logits[0, index], strict=True):
            assert (point > box[:2]).all()
            assert (point < box[2:]).all()
            vector = torch.tensor([0.9, 0.3] if box[0] == 4 else [0.2, 0.8])
            # The vector as a whole, scaled by how well the anchor does.
            ratio = logits.sigmoid() / vector
            assert ratio.max() <= 1 + 1e-4
            assert ratio[0] == pytest.approx(float(ratio[1]), rel=0.02) or ratio.max() < 1e-3


def test_it_is_the_assignment_of_the_hosts_own_loss(end2end):
    """A set of certain boxes is laid out as the same boxes in the ground truth are."""
    output = head_output(2, end2end=True)
    student = read_head(output, STRIDES, 1)
    laid = SetAssignment(end2end, match_classes(NAMES, NAMES), 0.05)(student, set_of([1.0, 0.0], [0.0, 1.0]))
    centre, size = (BOXES[:, :2] + BOXES[:, 2:]) / 2 / SIZE, (BOXES[:, 2:] - BOXES[:, :2]) / SIZE
    batch = {
        "batch_idx": torch.zeros(2),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.cat([centre, size], 1),
        "img": torch.zeros(2, 3, SIZE, SIZE),
    }
    for name in ("one2many", "one2one"):
        loss, branch = getattr(end2end, name), getattr(laid, name)
        (foreground, _, targets, *_), _, _ = loss.get_assigned_targets_and_loss(output[name], batch)
        assert torch.equal(branch.taught, foreground.bool() & branch.taught)
        index = branch.taught[0].nonzero().squeeze(-1)
        torch.testing.assert_close(branch.at((torch.zeros_like(index), index))[2], targets[0, index])


def test_nothing_is_taught_where_the_teacher_says_nothing(end2end):
    output = head_output(2, end2end=True)
    student = read_head(output, STRIDES, 1)
    classes = match_classes(NAMES, NAMES)
    terms = make_terms(classes, logit=1, localization=1)
    laid = SetAssignment(end2end, classes, 0.05)(student, set_of([0.9, 0.3]))
    sum(terms(student, laid, 1.0, 1.0, (SIZE, SIZE)).values()).backward()
    for name, branch in (("one2many", laid.one2many), ("one2one", laid.one2one)):
        gradient = output[name]["scores"].grad.permute(0, 2, 1)
        assert gradient[branch.taught].abs().sum() > 0
        assert gradient[~branch.taught].abs().sum() == 0
        assert output[name]["boxes"].grad.permute(0, 2, 1)[~branch.taught].abs().sum() == 0


@pytest.mark.parametrize("scores", [torch.zeros(2, 0, 2), torch.zeros(2, 3, 2), torch.full((2, 3, 2), 0.04)], ids=str)
def test_a_batch_in_which_nothing_is_seen(scores, end2end):
    output = head_output(2, end2end=True)
    student = read_head(output, STRIDES, 1)
    classes = match_classes(NAMES, NAMES)
    answer = SetAnswer(torch.rand(2, scores.shape[1], 4).sort().values * SIZE, scores)
    laid = SetAssignment(end2end, classes, 0.05)(student, answer)
    assert not laid.one2many.taught.any()
    terms = make_terms(classes, logit=1, localization=1)(student, laid, 1.0, 1.0, (SIZE, SIZE))
    assert float(sum(terms.values()).detach()) == 0


def test_student_classes_without_a_teacher_get_no_gradient_at_all(end2end):
    """Other order, other names, one class less."""
    names = {0: "nobody's", 1: "A", 2: "b"}
    host = criterion_of("yolo26n.yaml", 3)
    output = head_output(3, end2end=True)
    student = read_head(output, STRIDES, 1)
    classes = match_classes(names, {0: "b", 1: "other", 2: "a"})
    laid = SetAssignment(host, classes, 0.05)(student, set_of([0.1, 0.9, 0.6], [0.8, 0.7, 0.1]))
    assert laid.one2many.taught.any()
    terms = make_terms(classes, logit=1, hinton=1, localization=1)
    sum(terms(student, laid, 1.0, 1.0, (SIZE, SIZE)).values()).backward()
    for name in ("one2many", "one2one"):
        gradient = output[name]["scores"].grad.abs().sum((0, 2))
        assert gradient[0] == 0
        assert gradient[1] > 0
        assert gradient[2] > 0


def test_a_box_of_a_class_that_the_student_has_not_is_left_alone():
    host = criterion_of("yolov8n.yaml", 1)
    output = head_output(1, reg_max=16)
    student = read_head(output, STRIDES, 16)
    classes = match_classes({0: "a"}, {0: "a", 1: "other"})
    laid = SetAssignment(host, classes, 0.05)(student, set_of([0.01, 0.9]))
    assert laid.one2one is None
    assert not laid.one2many.taught.any()


def test_of_several_classes_that_mean_the_same_the_surest_speaks():
    host = criterion_of("yolov8n.yaml", 1)
    output = head_output(1, reg_max=16)
    student = read_head(output, STRIDES, 16)
    classes = match_classes({0: "vehicle"}, {0: "car", 1: "bus"}, {"car": "vehicle", "bus": "vehicle"})
    assignment = SetAssignment(host, classes, 0.05)
    terms = make_terms(classes, logit=1)
    both, one = (
        terms(student, assignment(student, set_of(scores)), 1.0, 1.0, (SIZE, SIZE))["logit"]
        for scores in ([0.2, 0.8], [0.8, 0.0])
    )
    assert float(both) == pytest.approx(float(one), rel=1e-4)
    assert float(both) > 0


def test_a_dense_answer_as_a_set_keeps_the_boxes_that_nms_leaves():
    output = head_output(2)
    with torch.no_grad():
        output["scores"].fill_(-8)
        output["boxes"].fill_(1.0)
        output["scores"][0, 1, [0, 1, 40]] = torch.tensor([2.0, 1.0, 3.0])  # 0 and 1 are neighbours, boxes of two cells
        output["boxes"][0, :, 1] = torch.tensor([2.0, 1.0, 0.0, 1.0])  # the same box as that of 0
    found = as_set(read_head(output, STRIDES, 1))
    assert found.boxes.shape == (2, 2, 4)
    assert found.present.tolist() == [[True, True], [False, False]]
    assert found.scores[0, :, 1].tolist() == pytest.approx([0.9526, 0.8808], abs=1e-4)
    assert float(found.scores[0, 0, 0].detach()) == pytest.approx(0.000335, abs=1e-5)  # vectors, not labels
    assert found.boxes[0, 1].tolist() == pytest.approx([-4.0, -4.0, 12.0, 12.0])
