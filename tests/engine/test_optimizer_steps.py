"""Few pictures make few optimizer steps, unless `nbs` is lowered."""

from __future__ import annotations

import logging

import pytest

from yolo_distill.engine.optimizer_steps import ENOUGH, count_steps, settled_nbs
from yolo_distill.engine.teacher_training import TeacherTrainer


@pytest.mark.parametrize(
    ("pictures", "settings", "nbs"),
    [
        (205, {"batch": 16, "epochs": 40}, 16),
        (205, {"batch": 64, "epochs": 40}, 64),  # a step a batch as it is
        (205, {"batch": 128, "epochs": 40}, 64),  # never below the batch
        (205, {"batch": 16, "epochs": 40, "nbs": 64}, 64),  # given
        (205, {"batch": 16, "epochs": 40, "time": 0.1}, 64),  # nobody knows how many epochs there will be
        (205, {"batch": -1, "epochs": 40}, 64),  # the host looks for a batch first
        (4 * ENOUGH * 16, {"batch": 16, "epochs": 1}, 64),  # enough as it is
        (2 * ENOUGH * 16, {"batch": 16, "epochs": 1}, 32),  # half way is enough
        (4 * ENOUGH * 16, {"batch": 16, "epochs": 1, "fraction": 0.25}, 16),
        (4 * ENOUGH * 16, {"batch": 16, "epochs": 1, "fraction": ENOUGH * 16}, 16),  # a count
    ],
)
def test_nbs_by_the_steps_that_a_run_would_take(pictures, settings, nbs):
    assert settled_nbs(pictures, settings) == nbs


@pytest.mark.parametrize(("ratio", "batches"), [(0.0, 2), (1.0, 4), (3.0, 7), (100.0, 7)])
def test_unlabelled_pictures_make_more_batches(ratio, batches):
    assert count_steps(7, {"batch": 4, "epochs": 1, "nbs": 4}, ratio) == batches


@pytest.mark.parametrize(("pictures", "epochs", "steps"), [(8, 1, 1), (8, 2, 1), (8, 10, 2)])
def test_a_run_of_few_batches_takes_a_step_all_the_same(pictures, epochs, steps):
    assert count_steps(pictures, {"batch": 2, "epochs": epochs, "nbs": 64}) == steps


def train(settings):
    """Train on eight pictures and return the trainer and its optimizer steps."""
    trainer = TeacherTrainer(overrides={**settings, "model": "yolo26n.yaml", "amp": False})
    steps = []
    step = trainer.optimizer_step
    trainer.optimizer_step = lambda: (steps.append(1), step())
    trainer.train()
    return trainer, len(steps)


@pytest.mark.slow
@pytest.mark.parametrize("nbs", [{"nbs": 8}, {}], ids=["given", "open"])
def test_the_steps_that_are_counted_are_those_that_are_taken(settings, nbs, caplog):
    caplog.set_level(logging.INFO)
    del settings["nbs"]
    own = {"batch": 2, "epochs": 5, "warmup_epochs": 1.5, **nbs}
    trainer, steps = train({**settings, **own})
    assert trainer.args.nbs == nbs.get("nbs", 2)
    assert steps == count_steps(8, {**own, "nbs": trainer.args.nbs})
    said = [record.getMessage() for record in caplog.records if "optimizer steps" in record.getMessage()]
    assert len(said) == (not nbs)
    assert nbs or "nbs=2 gives this run 20 optimizer steps; Ultralytics' nbs=64 would give it" in said[0]
