"""What a student that starts fitted is trained by, and who has the last word."""

from __future__ import annotations

import pytest
from torch import nn

from yolo_distill.engine.student_start import MOMENTUM
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.recipe import WORTH_STEPS, make_recipe

HOST_MOMENTUM = 0.03


def set_up(settings, tiny_pair, **given):
    """Return warm-up, momenta and the trainer of a run of 20 epochs just before its first batch."""
    settings = {**settings, **tiny_pair, "epochs": 20}
    del settings["warmup_epochs"]
    trainer = DistillationTrainer(overrides={**settings, **given})
    trainer._setup_train()
    momenta = {module.momentum for module in trainer.model.modules() if isinstance(module, nn.BatchNorm2d)}
    return trainer.args.warmup_epochs, momenta, trainer


def test_a_fitted_start_comes_to_its_learning_rate_slowly(settings, tiny_pair):
    warmup, momenta, trainer = set_up(settings, tiny_pair, init_warmup=0.3)
    assert warmup == 6.0  # 0.3 of the epochs
    assert momenta == {MOMENTUM}
    assert trainer.recipe.init_warmup == 0.3


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"init_warmup": 0.3, "warmup_epochs": 1.0},
        pytest.param({"init_warmup": 0.3, "init_fit": False}, marks=pytest.mark.slow),
        {"init_warmup": 0.3, "init": "student"},
    ],
)
def test_any_other_run_goes_as_the_host_has_it(given, settings, tiny_pair):
    warmup, momenta, trainer = set_up(settings, tiny_pair, **given)
    assert warmup == given.get("warmup_epochs", 3.0)
    assert momenta == {HOST_MOMENTUM}
    assert trainer.recipe.init_warmup == 0


@pytest.mark.parametrize(
    ("given", "where", "taught", "why"),
    [
        (
            {},
            {"inside": True, "steps": WORTH_STEPS[0] - 1},
            False,
            "in 499 optimizer steps that is as good as being taught",
        ),
        *(({}, {"inside": True, "steps": steps}, True, "from 500 to 1500 optimizer steps") for steps in WORTH_STEPS),
        ({}, {"inside": True, "steps": WORTH_STEPS[1] + 1}, False, "in 1501 optimizer steps that is as good"),
        ({}, {"inside": True}, True, "from 500 to 1500"),  # of a batch size that the host has yet to find
        ({}, {"inside": False}, True, "does not start inside its teacher"),
        ({"init_fit": False}, {"inside": True}, True, "its start is not fitted"),
        ({"unlabeled": "raw"}, {"inside": True, "steps": 1}, True, "unlabelled pictures"),
        ({"teach": False, "logit": 1}, {"inside": True, "steps": 9000}, False, "teach=false"),
        ({"teach": True}, {"inside": True, "steps": 1}, True, "teach=true"),
        ({"logit": 0, "localization": 0}, {"inside": False}, False, "all gains are 0"),
    ],
)
def test_whether_the_terms_teach_and_why(given, where, taught, why):
    said = make_recipe({"teacher": "t.pt", **given}).teaching(**where)
    assert said[0] is taught
    assert why in said[1]
