"""Which tensors of teacher and student meet in which loss."""

import math

import pytest
import torch
from made_criterion import SIZE, STRIDES, answer, head_output, only, terms_of, total
from ultralytics.nn.modules import OBB
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation.object_terms import ObjectTerm
from yolo_distill.distillation.terms import needs_of
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, as_set, read_head
from yolo_distill.terms_table import FEATURE_TERMS, TABLE

#: Of detectors.
TERMS = [name for name, term in TABLE.items() if term.task is None]
ALL = dict.fromkeys(TERMS, 1)


@pytest.mark.parametrize("name", ["yolo26n.yaml", "yolov8n.yaml"])
def test_reading_a_head_decodes_as_the_host_does(name):
    model = DetectionModel(name, nc=3, verbose=False).eval()
    model.model[-1].end2end = False
    with torch.no_grad():
        decoded, raw = model(torch.rand(1, 3, SIZE, SIZE))
    branch = read_head(raw, STRIDES, model.model[-1].reg_max).one2many
    index = torch.arange(branch.logits.shape[1])
    x, y, w, h = decoded[0, :4]
    expected = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
    torch.testing.assert_close(branch.at((torch.zeros_like(index), index))[2], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(branch.logits[0].sigmoid().T, decoded[0, 4:])


@pytest.mark.parametrize("name", TERMS)
def test_each_term_is_named_scaled_by_its_gain_and_computed_where_that_is_not_0(name):
    student, teacher = answer(head_output(2, end2end=True)), answer(head_output(2, end2end=True))
    terms = terms_of(**ALL, mgd_mask=0)
    usual = terms(student, teacher, 0.8, 0.2, (SIZE, SIZE))
    assert usual[name] > 0
    gains = {**dict.fromkeys(TERMS, 0.0), name: 3.0}
    changed = terms(student, teacher, 0.8, 0.2, (SIZE, SIZE), gains=gains)
    assert list(changed) == list(usual) == list(TERMS)
    torch.testing.assert_close(changed[name], 3 * usual[name])
    assert all(changed[other] == 0 and not changed[other].requires_grad for other in set(TERMS) - {name})
    assert list(terms_of(**{name: 1})(student, teacher, 1, 1, (SIZE, SIZE))) == [name]


@pytest.mark.parametrize("gains", [{"logit": 1, "localization": 1}, {"hinton": 1}], ids=str)
def test_unmatched_columns_get_exactly_no_gradient(gains):
    output = head_output(3)
    classes = match_classes({0: "new", 1: "b", 2: "a"}, {0: "a", 1: "b", 2: "other"})
    total(terms_of(classes, **gains), answer(output), answer(head_output(3))).backward()
    assert (output["scores"].grad[:, 0] == 0).all()
    assert (output["scores"].grad[:, 1:] != 0).any()


def test_columns_are_reordered_by_name():
    output = head_output(2)
    swapped = {**output, "scores": output["scores"].detach().flip(1)}
    classes = match_classes({0: "a", 1: "b"}, {0: "b", 1: "a"})
    assert total(terms_of(classes, logit=1), answer(output), answer(swapped)).item() == pytest.approx(0, abs=1e-6)


def test_turned_boxes_are_one_where_they_overlap_with_their_angle():
    """Of one object, seen by all anchors about its middle: the sides of an anchor are along the box's own."""
    anchors = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0)) * 4 + 40
    angle = torch.full((1, 25, 1), 0.7)
    cos, sin = math.cos(0.7), math.sin(0.7)
    x, y = (anchors - 48).unbind(-1)
    along, across = x * cos + y * sin, y * cos - x * sin
    sides = torch.stack([30 + along, 10 + across, 30 - along, 10 - across], -1)[None, ..., None]
    logits = torch.full((1, 25, 2), -8.0)
    logits[..., 0] = torch.rand(1, 25) + 1
    branch = DenseBranch(logits, sides, anchors, torch.ones(25, 1), extra=angle)
    whole = DenseAnswer(branch, None, {}, {8: 25})
    terms = terms_of(logit=1)
    terms._objects = ObjectTerm(None, OBB)
    assert terms._peaks(whole).sum() == 1
    found = as_set(whole, turned=True)
    half = torch.tensor([30 * cos + 10 * sin, 30 * sin + 10 * cos])
    torch.testing.assert_close(found.boxes[0], torch.cat([48 - half, 48 + half])[None], atol=1e-3, rtol=0)


def test_boxes_of_classes_that_nobody_matched_are_not_taught():
    output, teacher = head_output(1), head_output(2)
    teacher["scores"] = torch.stack([torch.full_like(teacher["scores"][:, 0], -20.0), teacher["scores"][:, 1] + 20], 1)
    classes = match_classes({0: "a"}, {0: "a", 1: "other"})
    assert total(terms_of(classes, localization=1), answer(output), answer(teacher)) == 0


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (16, 16), (1, 16), (16, 1), (16, 8)])
def test_boxes_are_taught_across_heads_and_equal_ones_cost_nothing(ours, theirs):
    output, terms = head_output(2, ours), terms_of(localization=1)
    total(terms, answer(output, ours), answer(head_output(2, theirs), theirs)).backward()
    assert output["boxes"].grad.abs().sum() > 0
    assert torch.isfinite(output["boxes"].grad).all()
    assert total(terms, answer(output, ours), answer(output, ours)).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("teacher_strides", [[4, 8, 16, 32], [8, 16, 32, 64], [16, 32, 64]])
def test_levels_are_matched_by_stride(teacher_strides):
    output, teacher = head_output(2), head_output(2, strides=teacher_strides)
    # The same answers at the common levels: nothing to learn there.
    ours, theirs = ([(SIZE // s) ** 2 for s in strides] for strides in (STRIDES, teacher_strides))
    with torch.no_grad():
        for key in ("boxes", "scores"):
            levels = dict(zip(STRIDES, output[key].split(ours, -1), strict=True))
            for stride, level in zip(teacher_strides, teacher[key].split(theirs, -1), strict=True):
                if stride in levels:
                    level.copy_(levels[stride])
    terms = terms_of(teacher_strides=teacher_strides, logit=1, localization=1)
    assert total(terms, answer(output), answer(teacher, strides=teacher_strides)).item() == pytest.approx(0, abs=1e-5)
    assert "left out" in str(terms.levels)


@pytest.mark.parametrize("gains", [{"logit": 1, "localization": 1}, {"hinton": 1}], ids=str)
def test_one2one_is_taught_at_the_teachers_peaks_only_and_never_by_one2many(gains):
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    scores = torch.full_like(teacher["one2one"]["scores"], -12.0)
    scores[0, 1, 5] = 4.0
    teacher["one2one"]["scores"] = scores
    total(terms_of(**gains), answer(output), answer(teacher)).backward()
    before = {key: output["one2one"][key].grad for key in ("scores", "boxes") if key == "scores" or len(gains) > 1}
    for key, gradient in before.items():
        assert gradient.abs().sum(1).nonzero().tolist() == [[0, 5]], key
        teacher["one2many"][key] = torch.randn_like(teacher["one2many"][key]).abs()  # another dense answer
        output["one2one"][key].grad = None
    total(terms_of(**gains), answer(output), answer(teacher)).backward()
    assert all(torch.equal(gradient, output["one2one"][key].grad) for key, gradient in before.items())


def test_a_teacher_without_one2one_teaches_it_what_survives_nms():
    output, teacher = head_output(2, end2end=True), head_output(2)
    with torch.no_grad():
        teacher["scores"][:] = -12.0
        # Three neighbours see one object, best in the middle; a fourth anchor sees another.
        for anchor, score in ((9, 1.0), (10, 3.0), (11, 2.0), (40, 2.5)):
            teacher["scores"][0, 0, anchor] = score
        # Cells 9, 10, 11 of the finest level lie side by side; distances that give all three the same box.
        for anchor, centre in ((9, 1.5), (10, 2.5), (11, 3.5)):
            teacher["boxes"][0, :, anchor] = torch.tensor([centre - 0.5, 1.0, 4.5 - centre, 1.0])
    total(terms_of(logit=1), answer(output), answer(teacher)).backward()
    assert output["one2one"]["scores"].grad.abs().sum(1).nonzero().tolist() == [[0, 10], [0, 40]]
    assert output["one2many"]["scores"].grad.abs().sum() > 0


def test_branches_weigh_as_in_the_task_and_maps_as_the_branch_by_which_it_reaches_the_neck():
    student, teacher = answer(head_output(2, end2end=True)), answer(head_output(2, end2end=True))
    terms = terms_of(**ALL)
    many, single, both = (terms(student, teacher, *w, (SIZE, SIZE)) for w in ((1, 0), (0, 1), (0.8, 0.2)))
    torch.testing.assert_close(both["logit"], 0.8 * many["logit"] + 0.2 * single["logit"])
    for name in FEATURE_TERMS:  # mimic is Ultralytics' own loss, which does not
        torch.testing.assert_close(both[name], (1 if name == "mimic" else 0.8) * many[name])


def test_a_picture_on_which_the_teacher_sees_nothing_is_finite():
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    for branch in teacher.values():
        branch["scores"] = torch.full_like(branch["scores"], -30.0)
    loss = total(terms_of(**ALL), answer(output), answer(teacher))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output["one2many"]["scores"].grad).all()


def test_half_precision_maps_and_answers_are_taught_in_single():
    """What comes out of a model under autocast."""

    def halved(output):
        branch = {key: output[key].detach().bfloat16().requires_grad_() for key in ("boxes", "scores")}
        return {**branch, "feats": [m.detach().bfloat16().requires_grad_() for m in output["feats"]]}

    output, terms = halved(head_output(2)), terms_of(**ALL)
    values = terms(answer(output), answer(halved(head_output(2))), 1, 1, (SIZE, SIZE))
    assert {value.dtype for value in values.values()} == {torch.float32}
    sum(values.values()).backward()
    for leaf in (output["boxes"], output["scores"], *output["feats"]):
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("theirs", [{0: "a"}, {0: "a", 1: "other"}, {0: "x", 1: "y"}])
def test_hinton_refuses_fewer_than_two_classes(theirs):
    classes = match_classes({0: "a", 1: "b"}, theirs)
    with pytest.raises(RequestError, match=r"hinton=0\.5: .*use logit="):
        terms_of(classes, hinton=0.5)
    terms_of(classes, logit=0.5)


class _Branches(torch.nn.Module):
    def __init__(self, end2end: bool) -> None:
        super().__init__()
        if end2end:
            self.one2one_cv2 = torch.nn.ModuleList()


@pytest.mark.parametrize(
    ("settings", "student", "teacher", "expected"),
    [
        ({"logit": 1}, False, True, "scores"),
        ({"logit": 1}, True, True, "scores one2one"),
        ({"hinton": 1}, True, False, "scores boxes"),
        ({"localization": 1}, False, False, "scores boxes"),
        ({"cwd": 1, "pkd": 1, "mgd": 1}, True, True, "maps"),
        ({"mimic": 1, "mimic_weight": "uniform"}, True, True, "maps"),
        ({"mimic": 1}, False, True, "scores one2one maps"),
        ({"mimic": 1}, True, False, "scores maps"),
        ({"mimic": 1, "logit": 1}, False, False, "scores maps"),
        ({"mask": 1, "localization": 1}, True, True, "scores boxes one2one extra"),
        ({"mask": 1, "localization": 1}, True, None, "scores boxes one2one"),  # a set's masks are not taught
    ],
)
def test_the_teacher_is_asked_for_what_the_terms_need(settings, student, teacher, expected):
    head = None if teacher is None else _Branches(teacher)
    needs = needs_of(make_recipe(only(**settings)), _Branches(student), head)
    assert {name for name, needed in vars(needs).items() if needed} == set(expected.split())


def test_scores_without_boxes_are_enough_for_a_map_though_not_for_peaks():
    """What a teacher with one branch is asked for when mimic is all that it teaches a student with two."""
    output, whole = head_output(2, end2end=True), answer(head_output(2))
    blind = DenseBranch(whole.one2many.logits, None, whole.one2many.anchors, whole.one2many.strides)
    teacher = DenseAnswer(blind, None, whole.maps, whole.cells)
    # Terms that are switched off for the batch ask for nothing either.
    gains = {"logit": 0.0, "localization": 0.0, "mimic": 1.0}
    values = terms_of(logit=1, localization=1, mimic=1)(answer(output), teacher, 1, 1, (SIZE, SIZE), gains=gains)
    assert values["mimic"] > 0


@pytest.mark.parametrize("name", FEATURE_TERMS)
def test_a_feature_term_needs_no_class_in_common(name):
    output, teacher = head_output(2, end2end=True), head_output(2)
    total(terms_of(match_classes({0: "a"}, {0: "b"}), **{name: 1}), answer(output), answer(teacher)).backward()
    assert all(m.grad.abs().sum() > 0 for m in output["one2many"]["feats"])


def test_scores_without_boxes_are_enough_where_neither_has_a_one2one_branch():
    """What a teacher such as a YOLOv8 is asked for when the class term is all that it teaches another one."""
    whole = answer(head_output(2))
    blind = DenseBranch(whole.one2many.logits, None, whole.one2many.anchors, whole.one2many.strides)
    teacher = DenseAnswer(blind, None, whole.maps, whole.cells)
    assert terms_of(logit=1)(answer(head_output(2)), teacher, 1, 1, (SIZE, SIZE))["logit"] > 0
