"""A set of boxes on the student's anchors: by the host's own assigner, and nowhere else than inside the boxes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_criterion import SIZE, answer, head_output, terms_of, total
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation import object_terms
from yolo_distill.distillation.anchor_assignment import SetAssignment
from yolo_distill.distillation.object_terms import ObjectTerm
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.teachers.answer import DenseBranch, SetAnswer, as_set, make_set, read_head
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.yolo import YoloTeacher

SAME = match_classes({0: "a", 1: "b"}, {0: "a", 1: "b"})
BOXES = torch.tensor([[4.0, 4.0, 28.0, 28.0], [34.0, 30.0, 60.0, 62.0]])


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


def test_anchors_get_box_and_class_vector_of_what_they_lie_in(end2end):
    student = answer(head_output(2, end2end=True))
    laid = SetAssignment(end2end, SAME, 0.05)(student, set_of([0.9, 0.3], [0.2, 0.8]))
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


@pytest.mark.parametrize("kind", ["seg", "pose"])
def test_a_student_whose_assigner_asks_for_masks_or_keypoints_goes_by_boxes(kind, end2end):
    model = load_architecture(f"yolo26n-{kind}.yaml", 2)
    model.args = get_cfg()
    student, boxes = answer(head_output(2, end2end=True)), set_of([0.9, 0.3], [0.2, 0.8])
    laid, wanted = (SetAssignment(one, SAME, 0.05)(student, boxes) for one in (model.init_criterion(), end2end))
    assert wanted.one2many.taught.any()
    assert torch.equal(laid.one2many.taught, wanted.one2many.taught)
    assert torch.equal(laid.one2many.logits, wanted.one2many.logits)


@pytest.mark.parametrize(("name", "shape"), [("yolo26n", (5, 3)), ("yolov8n", (5, 2))])
def test_keypoints_of_a_set_are_taught_where_they_are(name, shape):
    """A student that sees them where the teacher does has nothing to learn; they lie at the anchors of their boxes."""
    model = load_architecture(f"{name}-pose.yaml", 2, kpt_shape=shape)
    model.args = get_cfg()
    pictures, term = torch.rand(1, 3, SIZE, SIZE), ObjectTerm(model.model[-1], None, of_set="pose")
    teacher = YoloTeacher(model, needs=Needs(extra=True))
    student = teacher(pictures).one2many
    places = torch.arange(student.logits.shape[1])
    own = teacher.keypoints_at(student, (0 * places, places)).view(1, -1, *shape)
    own = torch.cat([own, torch.ones_like(own[..., :1])], -1)[..., :3]  # a set says how sure it is
    sure = torch.ones(1, len(places))
    same, moved = (
        float(term(student, replace(student, extra=places[None, :, None], proto=own + by), sure, (SIZE, SIZE)))
        for by in (torch.zeros(3), torch.tensor([9.0, 0, 0]))
    )
    assert moved > same + 0.01
    assert same < (0.06 if shape[1] == 3 else 1e-4)  # of what is half sure, no more than that is left
    points = torch.rand(2, *own.shape[2:]) * SIZE
    found = make_set([BOXES], [torch.tensor([[0.9, 0.1], [0.1, 0.8]])], 2, None, [points])
    output = model.train()(pictures)
    laid = SetAssignment(model.init_criterion(), SAME, 0.05)(
        read_head(output, [int(s) for s in model.stride], int(model.model[-1].reg_max)), found
    )
    branch = laid.one2many
    for anchor in branch.taught[0].nonzero().squeeze(-1):
        box = branch.at((torch.zeros_like(anchor)[None], anchor[None]))[2]
        which = (box - BOXES).abs().amax(-1).argmin()
        assert torch.equal(branch.proto[0, branch.extra[0, anchor, 0]], points[which])
    assert branch.taught.any()


def test_of_the_anchors_of_one_box_the_best_speaks_for_what_it_has_besides(monkeypatch):
    """So that the strongest few are of different objects."""
    head = load_architecture("yolov8n-pose.yaml", 2, kpt_shape=(5, 2)).model[-1]
    sides = torch.ones(1, 6, 4, 1)
    branch = DenseBranch(torch.zeros(1, 6, 2), sides, torch.zeros(6, 2), torch.ones(6, 1), extra=torch.zeros(1, 6, 10))
    place = torch.tensor([[[0], [0], [0], [1], [1], [1]]])
    found = []
    monkeypatch.setattr(object_terms, "MOST", 2)
    monkeypatch.setattr(object_terms, "keypoint_loss", lambda ours, theirs, boxes, weight, _: found.append(weight))
    score = torch.tensor([[0.9, 0.8, 0.7, 0.1, 0.2, 0.0]])
    teacher = replace(branch, extra=place, proto=torch.zeros(1, 2, 5, 3))
    ObjectTerm(head, None, of_set="pose")(branch, teacher, score, (SIZE, SIZE))
    assert found[0].tolist() == [pytest.approx([0.9, 0.2])]


def test_it_is_the_assignment_of_the_hosts_own_loss(end2end):
    """A set of certain boxes is laid out as the same boxes in the ground truth are."""
    output = head_output(2, end2end=True)
    student = answer(output)
    laid = SetAssignment(end2end, SAME, 0.05)(student, set_of([1.0, 0.0], [0.0, 1.0]))
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
    student = answer(output)
    laid = SetAssignment(end2end, SAME, 0.05)(student, set_of([0.9, 0.3]))
    total(terms_of(logit=1, localization=1), student, laid).backward()
    for name, branch in (("one2many", laid.one2many), ("one2one", laid.one2one)):
        gradient = output[name]["scores"].grad.permute(0, 2, 1)
        assert gradient[branch.taught].abs().sum() > 0
        assert gradient[~branch.taught].abs().sum() == 0
        assert output[name]["boxes"].grad.permute(0, 2, 1)[~branch.taught].abs().sum() == 0


@pytest.mark.parametrize("scores", [torch.zeros(2, 0, 2), torch.zeros(2, 3, 2), torch.full((2, 3, 2), 0.04)], ids=str)
def test_a_batch_in_which_nothing_is_seen(scores, end2end):
    student = answer(head_output(2, end2end=True))
    nothing = SetAnswer(torch.rand(2, scores.shape[1], 4).sort().values * SIZE, scores)
    laid = SetAssignment(end2end, SAME, 0.05)(student, nothing)
    assert not laid.one2many.taught.any()
    assert float(total(terms_of(logit=1, localization=1), student, laid).detach()) == 0


def test_student_classes_without_a_teacher_get_no_gradient_at_all(end2end):
    """Other order, other names, one class less."""
    names = {0: "nobody's", 1: "A", 2: "b"}
    host = criterion_of("yolo26n.yaml", 3)
    output = head_output(3, end2end=True)
    student = answer(output)
    classes = match_classes(names, {0: "b", 1: "other", 2: "a"})
    laid = SetAssignment(host, classes, 0.05)(student, set_of([0.1, 0.9, 0.6], [0.8, 0.7, 0.1]))
    assert laid.one2many.taught.any()
    total(terms_of(classes, logit=1, hinton=1, localization=1), student, laid).backward()
    for name in ("one2many", "one2one"):
        gradient = output[name]["scores"].grad.abs().sum((0, 2))
        assert (gradient > 0).tolist() == [False, True, True]


def test_a_student_of_one_class_and_one_branch():
    """A box of a class that it has not is left alone; of several classes that mean the same the surest speaks."""
    host, student = criterion_of("yolov8n.yaml", 1), answer(head_output(1, reg_max=16), 16)
    laid = SetAssignment(host, match_classes({0: "a"}, {0: "a", 1: "other"}), 0.05)(student, set_of([0.01, 0.9]))
    assert laid.one2one is None
    assert not laid.one2many.taught.any()
    classes = match_classes({0: "vehicle"}, {0: "car", 1: "bus"}, {"car": "vehicle", "bus": "vehicle"})
    assignment, terms = SetAssignment(host, classes, 0.05), terms_of(classes, logit=1)
    both, one = (total(terms, student, assignment(student, set_of(scores))) for scores in ([0.2, 0.8], [0.8, 0.0]))
    assert float(both) == pytest.approx(float(one), rel=1e-4)
    assert float(both) > 0


def test_a_dense_answer_as_a_set_keeps_the_boxes_that_nms_leaves():
    output = head_output(2)
    with torch.no_grad():
        output["scores"].fill_(-8)
        output["boxes"].fill_(1.0)
        output["scores"][0, 1, [0, 1, 40]] = torch.tensor([2.0, 1.0, 3.0])  # 0 and 1 are neighbours, boxes of two cells
        output["boxes"][0, :, 1] = torch.tensor([2.0, 1.0, 0.0, 1.0])  # the same box as that of 0
    found = as_set(answer(output))
    assert found.boxes.shape == (2, 2, 4)
    assert found.present.tolist() == [[True, True], [False, False]]
    assert found.scores[0, :, 1].tolist() == pytest.approx([0.9526, 0.8808], abs=1e-4)
    assert float(found.scores[0, 0, 0].detach()) == pytest.approx(0.000335, abs=1e-5)  # vectors, not labels
    assert found.boxes[0, 1].tolist() == pytest.approx([-4.0, -4.0, 12.0, 12.0])
