"""The feature terms' projectors: where they start, and that they come back."""

import pytest
import torch
from made_criterion import STRIDES, only
from torch import nn

from yolo_distill.distillation.projectors import keep_projectors, make_projectors, restore_projectors
from yolo_distill.distillation.terms import Levels
from yolo_distill.errors import RequestError
from yolo_distill.losses.mgd import Generator
from yolo_distill.recipe import make_recipe
from yolo_distill.terms_table import FEATURE_TERMS, TERMS

STUDENT, TEACHER = dict.fromkeys(STRIDES, 4), {8: 6, 16: 8, 32: 10}


def make(*terms, seed=0, chosen=None, **settings):
    recipe = make_recipe(only(*terms, **settings))
    return make_projectors(recipe, Levels.match(STRIDES, STRIDES), STUDENT, TEACHER, seed=seed, chosen=chosen)


def equal(ours: nn.Module, theirs: nn.Module) -> bool:
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_each_feature_term_has_one_a_common_level():
    assert list(make(*TERMS)) == [f"{term}_{stride}" for term in FEATURE_TERMS for stride in STRIDES]
    assert len(make("logit", "localization")) == 0
    levels = Levels.match(STRIDES, [16, 32, 64])
    made = make_projectors(make_recipe(only("pkd")), levels, STUDENT, {16: 8, 32: 10, 64: 12}, seed=0)
    assert list(made) == ["pkd_16", "pkd_32"]


def test_they_go_from_the_students_channels_to_the_teachers():
    made = make(*FEATURE_TERMS)
    for name, projector in made.items():
        stride = int(name.partition("_")[2])
        maps = torch.rand(2, STUDENT[stride], 5, 5)
        given = (maps, torch.zeros(2, 1, 5, 5, dtype=torch.bool)) if name.startswith("mgd") else (maps,)
        assert projector(*given).shape == (2, TEACHER[stride], 5, 5)
    for name in ("cwd_8", "pkd_8", "mimic_8"):
        assert isinstance(made[name], nn.Conv2d)
        assert made[name].bias is None
    assert isinstance(made["mgd_8"], Generator)
    host = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 1))
    make("mimic", mimic_projector="mlp")["mimic_8"].load_state_dict(host.state_dict())


@pytest.mark.parametrize("term", FEATURE_TERMS)
def test_a_terms_weights_do_not_depend_on_the_other_terms(term):
    alone, among = make(term), make(*FEATURE_TERMS)
    assert all(equal(projector, among[name]) for name, projector in alone.items())


def test_weights_differ_from_seed_to_seed_and_term_to_term_and_no_other_random_state_does():
    before = torch.get_rng_state()
    weights = [make(*FEATURE_TERMS, seed=seed)[f"{t}_8"].weight for seed in (0, 1, 2) for t in ("cwd", "pkd", "mimic")]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    assert equal(make("cwd", seed=3), make("cwd", seed=3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("term", ["cwd", "pkd", "mimic"])
def test_a_linear_one_starts_as_the_selection_that_the_student_started_from(term):
    chosen = {8: torch.tensor([0, 2, 3, 5]), 16: torch.tensor([7, 1, 4, 0])}
    made = make(term, chosen=chosen)
    for stride, index in chosen.items():
        theirs = torch.randn(2, TEACHER[stride], 3, 3)
        projected = made[f"{term}_{stride}"](theirs[:, index])
        torch.testing.assert_close(projected[:, index], theirs[:, index])
        others = [c for c in range(TEACHER[stride]) if c not in index.tolist()]
        assert (projected[:, others] == 0).all()
    # A level that did not start from the teacher is as it would be without the others.
    assert equal(made[f"{term}_32"], make(term)[f"{term}_32"])


@pytest.mark.parametrize(("term", "settings"), [("mgd", {}), ("mimic", {"mimic_projector": "mlp"})])
def test_the_others_stay_random(term, settings):
    chosen = {stride: torch.arange(4) for stride in STRIDES}
    assert equal(make(term, chosen=chosen, **settings), make(term, **settings))


def test_they_come_back_from_the_file(tmp_path):
    file = tmp_path / "projectors.pt"
    first, second = make(*FEATURE_TERMS, seed=1), make(*FEATURE_TERMS, seed=2)
    keep_projectors(file, 4, make(*FEATURE_TERMS, seed=3))
    keep_projectors(file, 5, first)
    keep_projectors(file, 6, second)
    for epoch, expected in ((5, first), (6, second)):
        restored = make(*FEATURE_TERMS, seed=9)
        restore_projectors(file, epoch, restored)
        assert equal(restored, expected)
    with pytest.raises(RequestError, match="no projectors for epoch 5"):
        restore_projectors(file, 4, first)
    with pytest.raises(RequestError, match="the feature terms need"):
        restore_projectors(file, 6, make("pkd"))
