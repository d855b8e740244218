"""A teacher rests once its student is better than it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from yolo_distill.engine import teacher_setup, teacher_stop
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.teacher_stop import epochs_until_passed
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate


@pytest.mark.parametrize(
    ("curve", "done"),
    [
        ([], None),
        ([0.1, 0.2, 0.4, 0.1], 3),
        ([0.3, 0.3, 0.3], None),  # as good is not better
        ([float("nan")] * 3, None),
    ],
)
def test_it_is_passed_behind_the_first_better_epoch(curve, done):
    assert epochs_until_passed(curve, 0.3) == done


@pytest.fixture
def begin(settings, tiny_pair, monkeypatch):
    """Return a function that makes a trainer whose teacher has a made mAP on val."""

    def make(teacher_map: float, **changes) -> DistillationTrainer:
        monkeypatch.setattr(teacher_stop, "measure_teachers", lambda *_, **__: {"map": teacher_map})
        own = {**tiny_pair, "epochs": 3, "ramp_epochs": 0.0}
        return DistillationTrainer(overrides={**settings, **own, **changes})

    return make


def taught(trainer: DistillationTrainer) -> list[bool]:
    return [loss > 0 for loss in read_columns(trainer.csv)["train/logit_loss"]]


def test_a_teacher_that_is_passed_rests(begin):
    trainer = begin(-1.0)  # even a student that finds nothing is better
    trainer.train()
    assert taught(trainer) == [True, False, False]
    assert read_columns(trainer.csv)["share/logit"][1:] == [0, 0]
    assert trainer.passed_after == 1


def test_it_is_remembered_where_a_run_goes_on(begin):
    trainer = begin(-1.0)

    def stop(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    trainer.add_callback("on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    last = str(trainer.last)
    resumed = DistillationTrainer(overrides={"model": last, "resume": last})
    resumed.train()
    assert taught(resumed) == [True, False, False]


def test_one_that_is_better_teaches_to_the_end(begin):
    trainer = begin(2.0)
    trainer.train()
    assert taught(trainer) == [True] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"kd_until": 1.0},
        {"match": "some"},  # it knows less than the student has to
        {"unlabeled": "raw"},  # nobody else would teach these
        {"force": True},
        {"val": False},
        {"logit": 0, "localization": 0},
    ],
)
def test_one_that_is_not_to_rest_is_not_measured(changes, begin, monkeypatch):
    trainer = begin(-1.0)
    own = {key: value for key, value in changes.items() if key != "val"}
    trainer.recipe = trainer.recipe.model_copy(update=own)
    trainer.args.val = changes.get("val", True)
    monkeypatch.setattr(teacher_stop, "measure_teachers", lambda *_, **__: pytest.fail("measured"))
    trainer.measure_teacher()
    assert trainer.teacher_map is None


def test_it_is_measured_as_the_student_will_be_and_draws_nothing(settings, tiny_pair, monkeypatch):
    asked = {}

    def look(*given, **settings):
        asked.update(settings)
        return evaluate(*given, **settings)

    monkeypatch.setattr(teacher_setup, "evaluate", look)
    own = {**tiny_pair, "nms": False, "max_det": 50}
    trainer = DistillationTrainer(overrides={**settings, **own})
    before = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    trainer.measure_teacher()
    assert (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == before
    assert trainer.teacher_map == pytest.approx(0, abs=0.2)
    as_asked = {"rect": True, "nms": False, "max_det": 50, "split": "val", "imgsz": settings["imgsz"]}
    assert as_asked.items() <= asked.items()


def test_one_that_cannot_be_measured_is_said(begin, monkeypatch):
    trainer = begin(0.5)
    said: list[str] = []
    monkeypatch.setattr(teacher_stop.LOGGER, "info", said.append)

    def refuse(*_, **__):
        raise RequestError("holds answers")

    monkeypatch.setattr(teacher_stop, "measure_teachers", refuse)
    trainer.measure_teacher()
    assert said == [f"{teacher_stop.PREFIX}the teacher teaches to the end, as it is not measured: holds answers"]
    assert trainer.teacher_map is None
