"""Which tensors of teacher and student meet in which loss."""

import pytest
import torch

from yolo_distill.data.class_mapping import ClassMatch, match_classes
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels, Terms, needs_of
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, read_head
from yolo_distill.terms_table import TABLE
from yolo_distill.vocabulary import FEATURE_TERMS, TERMS

SIZE = 64
STRIDES = [8, 16, 32]


def head_output(nc: int, reg_max: int = 1, strides: list[int] = STRIDES, end2end: bool = False, channels: int = 4):
    """Return what a `Detect` head gives for two pictures, as leaves that collect gradients."""
    maps = [torch.randn(2, channels, SIZE // s, SIZE // s, requires_grad=True) for s in strides]
    anchors = sum((SIZE // s) ** 2 for s in strides)

    def branch():
        return {
            "boxes": (torch.rand(2, 4 * reg_max, anchors) * 2).requires_grad_(),
            "scores": torch.randn(2, nc, anchors).requires_grad_(),
            "feats": maps,
        }

    return {"one2many": branch(), "one2one": branch()} if end2end else branch()


def answer(output, reg_max: int = 1, strides: list[int] = STRIDES) -> DenseAnswer:
    return read_head(output, strides, reg_max)


def make_terms(classes: ClassMatch | None = None, teacher_strides: list[int] = STRIDES, **settings: object) -> Terms:
    levels = Levels.match(STRIDES, teacher_strides)
    recipe = make_recipe({"teacher": "t.pt", **dict.fromkeys(TERMS, 0), **settings})
    projectors = make_projectors(recipe, levels, dict.fromkeys(STRIDES, 4), dict.fromkeys(teacher_strides, 4), seed=0)
    return Terms(recipe, classes or match_classes({0: "a", 1: "b"}, {0: "a", 1: "b"}), levels, projectors)


def total(terms, student, teacher, many=1.0, single=1.0):
    values = terms(student, teacher, many, single, (SIZE, SIZE))
    return sum(values.values())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_reading_a_head_decodes_as_the_host_does():
    from ultralytics.nn.tasks import DetectionModel

    for name in ("yolo26n.yaml", "yolov8n.yaml"):
        model = DetectionModel(name, nc=3, verbose=False).eval()
        model.model[-1].end2end = False
        with torch.no_grad():
            decoded, raw = model(torch.rand(1, 3, SIZE, SIZE))
        reg_max = model.model[-1].reg_max
        branch = read_head(raw, STRIDES, reg_max).one2many
        index = torch.arange(branch.logits.shape[1])
        boxes = branch.at((torch.zeros_like(index), index))[2]
        x, y, w, h = decoded[0, :4]
        expected = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
        torch.testing.assert_close(boxes, expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(branch.logits[0].sigmoid().T, decoded[0, 4:])


def test_each_term_is_named_and_scaled_by_its_gain():
    student, teacher = answer(head_output(2)), answer(head_output(2))
    once = make_terms(**dict.fromkeys(TERMS, 1))(student, teacher, 1, 1, (SIZE, SIZE))
    twice = make_terms(**dict.fromkeys(TERMS, 2))(student, teacher, 1, 1, (SIZE, SIZE))
    assert list(once) == list(TERMS)
    for name, value in once.items():
        assert value > 0
        torch.testing.assert_close(twice[name], 2 * value)


def test_a_term_without_gain_is_absent():
    assert list(make_terms(logit=1)(answer(head_output(2)), answer(head_output(2)), 1, 1, (SIZE, SIZE))) == ["logit"]


def test_unmatched_columns_get_exactly_no_gradient():
    output = head_output(3)
    classes = match_classes({0: "new", 1: "b", 2: "a"}, {0: "a", 1: "b", 2: "other"})
    total(make_terms(classes, logit=1, localization=1), answer(output), answer(head_output(3))).backward()
    assert (output["scores"].grad[:, 0] == 0).all()
    assert (output["scores"].grad[:, 1:] != 0).any()


def test_columns_are_reordered_by_name():
    output = head_output(2)
    swapped = {**output, "scores": output["scores"].detach().flip(1)}
    classes = match_classes({0: "a", 1: "b"}, {0: "b", 1: "a"})
    assert total(make_terms(classes, logit=1), answer(output), answer(swapped)).item() == pytest.approx(0, abs=1e-6)


def test_boxes_of_classes_that_nobody_matched_are_not_taught():
    output, teacher = head_output(1), head_output(2)
    teacher["scores"] = torch.stack([torch.full_like(teacher["scores"][:, 0], -20.0), teacher["scores"][:, 1] + 20], 1)
    classes = match_classes({0: "a"}, {0: "a", 1: "other"})
    assert total(make_terms(classes, localization=1), answer(output), answer(teacher)) == 0


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (16, 16), (1, 16), (16, 1), (16, 8)])
def test_boxes_are_taught_across_heads(ours, theirs):
    output = head_output(2, ours)
    total(make_terms(localization=1), answer(output, ours), answer(head_output(2, theirs), theirs)).backward()
    assert output["boxes"].grad.abs().sum() > 0
    assert torch.isfinite(output["boxes"].grad).all()


def test_equal_boxes_cost_nothing():
    output = head_output(2, 16)
    assert total(make_terms(localization=1), answer(output, 16), answer(output, 16)).item() == pytest.approx(
        0, abs=1e-5
    )


@pytest.mark.parametrize("teacher_strides", [[4, 8, 16, 32], [8, 16, 32, 64], [16, 32, 64]])
def test_levels_are_matched_by_stride(teacher_strides):
    output, teacher = head_output(2), head_output(2, strides=teacher_strides)
    # The same answers at the common levels: nothing to learn there.
    sizes = {s: (SIZE // s) ** 2 for s in (*STRIDES, *teacher_strides)}
    common = [s for s in STRIDES if s in teacher_strides]

    def start(strides, s):
        return sum(sizes[q] for q in strides[: strides.index(s)])

    with torch.no_grad():
        for key in ("boxes", "scores"):
            for s in common:
                a, b = start(STRIDES, s), start(teacher_strides, s)
                teacher[key][..., b : b + sizes[s]] = output[key][..., a : a + sizes[s]]
    terms = make_terms(teacher_strides=teacher_strides, logit=1, localization=1)
    loss = total(terms, answer(output), answer(teacher, strides=teacher_strides))
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert "left out" in str(terms.levels)


def test_one2one_is_taught_at_the_teachers_peaks_only():
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    scores = torch.full_like(teacher["one2one"]["scores"], -12.0)
    scores[0, 1, 5] = 4.0
    teacher["one2one"]["scores"] = scores
    total(make_terms(logit=1, localization=1), answer(output), answer(teacher)).backward()
    for key in ("scores", "boxes"):
        touched = output["one2one"][key].grad.abs().sum(1).nonzero().tolist()
        assert touched == [[0, 5]], key


def test_one2many_never_teaches_one2one():
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    total(make_terms(logit=1, localization=1), answer(output), answer(teacher)).backward()
    before = output["one2one"]["scores"].grad.clone(), output["one2one"]["boxes"].grad.clone()
    for key in ("scores", "boxes"):
        output["one2one"][key].grad = None
        teacher["one2many"][key] = torch.randn_like(teacher["one2many"][key]).abs()  # another dense answer
    total(make_terms(logit=1, localization=1), answer(output), answer(teacher)).backward()
    assert torch.equal(before[0], output["one2one"]["scores"].grad)
    assert torch.equal(before[1], output["one2one"]["boxes"].grad)


def test_a_teacher_without_one2one_teaches_it_what_survives_nms():
    output, teacher = head_output(2, end2end=True), head_output(2)
    with torch.no_grad():
        teacher["scores"][:] = -12.0
        # Three neighbours see one object, best in the middle; a fourth anchor sees another.
        for anchor, score in ((9, 1.0), (10, 3.0), (11, 2.0), (40, 2.5)):
            teacher["scores"][0, 0, anchor] = score
        # Cells 9, 10, 11 of the finest level lie side by side; distances that give all three the same box.
        for anchor, column in ((9, 1), (10, 2), (11, 3)):
            centre = column + 0.5
            teacher["boxes"][0, :, anchor] = torch.tensor([centre - 0.5, 1.0, 4.5 - centre, 1.0])
    total(make_terms(logit=1), answer(output), answer(teacher)).backward()
    touched = output["one2one"]["scores"].grad.abs().sum(1).nonzero().tolist()
    assert touched == [[0, 10], [0, 40]]
    assert output["one2many"]["scores"].grad.abs().sum() > 0


def test_branches_weigh_as_in_the_task():
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    terms = make_terms(logit=1)
    many = total(terms, answer(output), answer(teacher), 1, 0)
    single = total(terms, answer(output), answer(teacher), 0, 1)
    torch.testing.assert_close(total(terms, answer(output), answer(teacher), 0.8, 0.2), 0.8 * many + 0.2 * single)


def test_maps_weigh_as_the_branch_by_which_the_task_reaches_the_neck():
    student, teacher = answer(head_output(2)), answer(head_output(2))
    terms = make_terms(**dict.fromkeys(FEATURE_TERMS, 1))
    full, less = (terms(student, teacher, many, 1 - many, (SIZE, SIZE)) for many in (1.0, 0.1))
    for name in FEATURE_TERMS:
        factor = 1 if name == "mimic" else 0.1  # mimic is Ultralytics' own loss, which does not
        torch.testing.assert_close(less[name], factor * full[name])


def test_a_picture_on_which_the_teacher_sees_nothing_is_finite():
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    for branch in teacher.values():
        branch["scores"] = torch.full_like(branch["scores"], -30.0)
    loss = total(make_terms(**dict.fromkeys(TERMS, 1)), answer(output), answer(teacher))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output["one2many"]["scores"].grad).all()


def test_half_precision_maps_and_answers_are_taught_in_single():
    """What comes out of a model under autocast."""

    def halved(output):
        branch = {key: output[key].detach().bfloat16().requires_grad_() for key in ("boxes", "scores")}
        return {**branch, "feats": [m.detach().bfloat16().requires_grad_() for m in output["feats"]]}

    output, terms = halved(head_output(2)), make_terms(**dict.fromkeys(TERMS, 1))
    values = terms(answer(output), answer(halved(head_output(2))), 1, 1, (SIZE, SIZE))
    assert {value.dtype for value in values.values()} == {torch.float32}
    sum(values.values()).backward()
    for leaf in (output["boxes"], output["scores"], *output["feats"]):
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("name", TERMS)
def test_gains_may_change_from_batch_to_batch(name):
    student, teacher = answer(head_output(2, end2end=True)), answer(head_output(2, end2end=True))
    terms = make_terms(**dict.fromkeys(TERMS, 1), mgd_mask=0)
    usual = terms(student, teacher, 0.8, 0.2, (SIZE, SIZE))
    gains = {**dict.fromkeys(TERMS, 0.0), name: 3.0}
    changed = terms(student, teacher, 0.8, 0.2, (SIZE, SIZE), gains=gains)
    assert list(changed) == list(TERMS)
    torch.testing.assert_close(changed[name], 3 * usual[name])
    for other in set(TERMS) - {name}:
        assert changed[other] == 0
        assert not changed[other].requires_grad


def test_a_term_that_is_switched_off_for_a_batch_is_not_computed(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError

    for term in TABLE.values():
        monkeypatch.setattr(term.loss.replace(":", "."), never)
    terms, student, teacher = make_terms(**dict.fromkeys(TERMS, 1)), answer(head_output(2)), answer(head_output(2))
    values = terms(student, teacher, 1, 1, (SIZE, SIZE), gains=dict.fromkeys(TERMS, 0.0))
    assert all(value == 0 and not value.requires_grad for value in values.values())
    for name in TERMS:
        with pytest.raises(AssertionError):
            terms(student, teacher, 1, 1, (SIZE, SIZE), gains={**dict.fromkeys(TERMS, 0.0), name: 1.0})


@pytest.mark.parametrize("theirs", [{0: "a"}, {0: "a", 1: "other"}, {0: "x", 1: "y"}])
def test_hinton_refuses_fewer_than_two_classes(theirs):
    classes = match_classes({0: "a", 1: "b"}, theirs)
    with pytest.raises(RequestError, match=r"hinton=0\.5: .*use logit=") as refused:
        make_terms(classes, hinton=0.5)
    assert "\n" not in str(refused.value)
    make_terms(classes, logit=0.5)


def test_hinton_teaches_where_the_teacher_sees_something():
    output, teacher = head_output(2, end2end=True), head_output(2, end2end=True)
    for branch, anchor in (("one2many", 3), ("one2one", 5)):
        scores = torch.full_like(teacher[branch]["scores"], -12.0)
        scores[0, 1, anchor] = 4.0
        teacher[branch]["scores"] = scores
    total(make_terms(hinton=1), answer(output), answer(teacher)).backward()
    for branch, anchor in (("one2many", 3), ("one2one", 5)):
        assert output[branch]["scores"].grad.abs().sum(1).nonzero().tolist() == [[0, anchor]]


def test_hinton_compares_matched_classes_only():
    output = head_output(3)
    classes = match_classes({0: "new", 1: "b", 2: "a"}, {0: "a", 1: "b", 2: "other"})
    total(make_terms(classes, hinton=1), answer(output), answer(head_output(3))).backward()
    assert (output["scores"].grad[:, 0] == 0).all()
    assert (output["scores"].grad[:, 1:] != 0).any()


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
        ({"logit": 1}, True, False, "scores boxes"),
        ({"hinton": 1}, False, True, "scores"),
        ({"hinton": 1}, True, False, "scores boxes"),
        ({"localization": 1}, False, False, "scores boxes"),
        ({"cwd": 1}, True, True, "maps"),
        ({"pkd": 1}, True, True, "maps"),
        ({"mgd": 1}, True, True, "maps"),
        ({"mimic": 1, "mimic_weight": "uniform"}, True, True, "maps"),
        ({"mimic": 1}, False, True, "scores one2one maps"),
        ({"mimic": 1}, True, False, "scores maps"),
        ({"mimic": 1, "logit": 1}, False, False, "scores maps"),
    ],
)
def test_the_teacher_is_asked_for_what_the_terms_need(settings, student, teacher, expected):
    recipe = make_recipe({"teacher": "t.pt", **dict.fromkeys(TERMS, 0), **settings})
    needs = needs_of(recipe, _Branches(student), _Branches(teacher))
    assert {name for name, needed in vars(needs).items() if needed} == set(expected.split())


def test_scores_without_boxes_are_enough_for_a_map_though_not_for_peaks():
    """What a teacher with one branch is asked for when mimic is all that it teaches a student with two."""
    output, whole = head_output(2, end2end=True), answer(head_output(2))
    blind = DenseBranch(whole.one2many.logits, None, whole.one2many.anchors, whole.one2many.strides)
    teacher = DenseAnswer(blind, None, whole.maps, whole.cells)
    assert total(make_terms(mimic=1), answer(output), teacher) > 0
    # Terms that are switched off for the batch ask for nothing either.
    gains = {"logit": 0.0, "localization": 0.0, "mimic": 1.0}
    values = make_terms(logit=1, localization=1, mimic=1)(answer(output), teacher, 1, 1, (SIZE, SIZE), gains=gains)
    assert values["mimic"] > 0


@pytest.mark.parametrize("name", FEATURE_TERMS)
def test_a_feature_term_needs_no_class_in_common(name):
    output, teacher = head_output(2, end2end=True), head_output(2)
    terms = make_terms(match_classes({0: "a"}, {0: "b"}), **{name: 1})
    total(terms, answer(output), answer(teacher)).backward()
    assert all(m.grad.abs().sum() > 0 for m in output["one2many"]["feats"])
