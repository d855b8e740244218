"""Which maps and scores meet in which feature loss, and that `mimic` can be Ultralytics' own distillation."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from live_detector import draw, live_detector
from made_criterion import SIZE, STRIDES, answer, head_output, only
from ultralytics.cfg import get_cfg
from ultralytics.nn.distill_model import DistillationModel

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation.feature_terms import FeatureTerms, score_maps
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels, Terms, needs_of
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, read_head
from yolo_distill.teachers.yolo import YoloTeacher
from yolo_distill.terms_table import FEATURE_TERMS

NAMES = ("round", "square")


def recipe_of(**settings):
    return make_recipe(only(**settings))


def feature_terms(**settings) -> FeatureTerms:
    recipe, levels = recipe_of(**settings), Levels.match(STRIDES, STRIDES)
    widths = [dict.fromkeys(STRIDES, channels) for channels in (4, 6)]
    return FeatureTerms(recipe, STRIDES, make_projectors(recipe, levels, *widths, seed=0))


def pair() -> tuple[DenseAnswer, DenseAnswer]:
    """Return the answers of a student of four channels and a teacher of six."""
    return answer(head_output(2, end2end=True)), answer(head_output(2, end2end=True, channels=6))


@pytest.mark.parametrize("name", FEATURE_TERMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_reaches_student_and_projectors_and_never_the_teacher(name, dtype):
    student, teacher = pair()
    for side in (student, teacher):
        side.maps.update({s: m.detach().to(dtype).requires_grad_() for s, m in side.maps.items()})
    terms = feature_terms(**{name: 1})
    # What pictures come next, and how they are augmented, must not depend on the term.
    chance = torch.get_rng_state(), np.random.get_state()[1].copy()
    values = terms({name}, student, teacher)
    assert torch.equal(torch.get_rng_state(), chance[0])
    assert (np.random.get_state()[1] == chance[1]).all()
    assert list(values) == [name]
    assert values[name].dtype == torch.float32
    assert values[name] > 0
    values[name].backward()
    for leaf in (*student.maps.values(), *terms.projectors.parameters()):
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().sum() > 0
    for leaf in (*teacher.maps.values(), teacher.one2many.logits, teacher.one2one.logits):
        assert leaf.grad is None


def test_only_active_terms_are_computed_and_each_has_its_own_projectors():
    terms, sides = feature_terms(**dict.fromkeys(FEATURE_TERMS, 1)), pair()
    assert list(terms(set(FEATURE_TERMS), *sides)) == list(FEATURE_TERMS)
    assert terms({"logit"}, *sides) == {}
    terms({"pkd"}, *sides)["pkd"].backward()
    assert {n.split("_")[0] for n, p in terms.projectors.named_parameters() if p.grad is not None} == {"pkd"}


@pytest.mark.parametrize("name", FEATURE_TERMS)
def test_mimic_is_a_sum_over_levels_and_the_others_are_means(name):
    """A level more of the same: the sum grows by it, the mean stays."""
    settings = {name: 1, "mgd_mask": 0, "mimic_weight": "uniform"}
    student, teacher = pair()
    found = []
    for strides in ([8], [8, 8]):
        terms = feature_terms(**settings)
        terms.strides = strides
        found.append(terms({name}, student, teacher)[name].item())
    assert found[1] == pytest.approx(found[0] * (2 if name == "mimic" else 1))


def test_mgd_hides_other_places_in_every_step_and_the_same_in_every_run():
    student, teacher = pair()

    def run(steps=3):
        terms = feature_terms(mgd=1)
        return [terms({"mgd"}, student, teacher, step)["mgd"].item() for step in range(steps)]

    first = run()
    assert len(set(first)) == 3
    assert first == run()


def test_mimic_looks_where_the_teacher_sees_something():
    student, teacher = pair()
    logits = torch.full((2, 84, 2), -12.0)
    logits[1, 64 + 6, 1] = 9.0  # stride 16, row 1, column 2
    one = DenseBranch(logits, None, teacher.one2many.anchors, teacher.one2many.strides)
    teacher = DenseAnswer(one, one, teacher.maps, teacher.cells)
    blind = DenseAnswer(None, None, teacher.maps, teacher.cells)
    assert feature_terms(mimic=1, mimic_weight="uniform")({"mimic"}, student, blind)["mimic"] > 0
    feature_terms(mimic=1)({"mimic"}, student, teacher)["mimic"].backward()
    touched = [
        (s, *where) for s, m in student.maps.items() for where in (m.grad.abs().sum(1) > 1e-3).nonzero().tolist()
    ]
    assert touched == [(16, 1, 1, 2)]


def test_scores_are_those_of_the_mean_logits_and_of_the_one_branch_where_there_is_one():
    _, teacher = pair()
    both = (teacher.one2many.logits + teacher.one2one.logits) / 2
    for found, logits in (
        (score_maps(teacher), both),
        (score_maps(DenseAnswer(teacher.one2many, None, teacher.maps, teacher.cells)), teacher.one2many.logits),
    ):
        assert [m.shape for m in found.values()] == [(2, 8, 8), (2, 4, 4), (2, 2, 2)]
        flat = torch.cat([m.flatten(1) for m in found.values()], 1)
        torch.testing.assert_close(flat, logits.sigmoid().amax(-1))


def pictures(count: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.stack(draw(count, SIZE, SIZE)).transpose(0, 3, 1, 2)).float() / 255


@pytest.mark.parametrize("family", ["yolo26", pytest.param("yolo11", marks=pytest.mark.slow)])
def test_mimic_is_the_hosts_own_distillation(family):
    """The host's loss for a whole pair and ours: same models, same projector weights, same pictures."""
    student, teacher = live_detector(f"{family}n.yaml"), live_detector(f"{family}s.yaml", seed=5)
    for level in getattr(teacher.model[-1], "one2one_cv3", None) or ():  # a copy of the other branch until it learns
        torch.nn.init.normal_(level[-1].weight, std=float(level[-1].weight.detach().std()))
    images, own_student = pictures(), deepcopy(student)
    student.args = get_cfg(overrides={"imgsz": SIZE, "dis": 3.0})
    host = DistillationModel(deepcopy(teacher), student).train()
    labels = {"batch_idx": torch.arange(4.0), "cls": torch.zeros(4, 1), "bboxes": torch.full((4, 4), 0.5)}
    expected = host({**labels, "img": images})[1]["dis_loss"].item() / host.dis
    assert expected > 0

    head = own_student.model[-1]
    recipe = recipe_of(mimic=1, mimic_weight="score", mimic_projector="mlp")
    own_teacher = YoloTeacher(teacher, needs=needs_of(recipe, head, teacher.model[-1]))
    levels = Levels.match(STRIDES, own_teacher.strides)
    widths = dict(zip(STRIDES, (seq[0].conv.in_channels for seq in head.cv2), strict=True))
    projectors = make_projectors(recipe, levels, widths, own_teacher.widths, seed=0)
    for stride, theirs in zip(STRIDES, host.projector, strict=True):
        projectors[f"mimic_{stride}"].load_state_dict(theirs.state_dict())
    classes = match_classes(own_student.names, own_teacher.names)
    answered = read_head(own_student.train()(images), STRIDES, int(head.reg_max))
    values = Terms(recipe, classes, levels, projectors)(answered, own_teacher(images), 0.8, 0.2, (SIZE, SIZE))
    # The teacher's batch norms are folded, so not to the last digit.
    assert values["mimic"].item() == pytest.approx(expected, rel=1e-4)
