"""A teacher rests once its student is better than it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from yolo_distill.engine import passing
from yolo_distill.engine.passing import TEACHER_ON_VAL, epochs_until_passed
from yolo_distill.engine.shares import read_columns
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError


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
def begin(settings, make_teacher, names, monkeypatch):
    """Return a function that makes a trainer whose teacher has a made mAP on val."""

    def make(teacher_map: float, **changes) -> DistillationTrainer:
        monkeypatch.setattr(passing, "measure_teachers", lambda *_, **__: {"map": teacher_map})
        teacher = str(make_teacher("yolo26s.yaml", names))
        own = {"model": "yolo26n.yaml", "teacher": teacher, "epochs": 3, "ramp_epochs": 0.0}
        return DistillationTrainer(overrides={**settings, **own, **changes})

    return make


def taught(trainer: DistillationTrainer) -> list[bool]:
    return [loss > 0 for loss in read_columns(trainer.csv)["train/logit_loss"]]


@pytest.mark.slow
def test_a_teacher_that_is_passed_rests(begin):
    trainer = begin(-1.0)  # even a student that finds nothing is better
    trainer.train()
    assert taught(trainer) == [True, False, False]
    assert read_columns(trainer.csv)["share/logit"][1:] == [0, 0]
    assert trainer.passed_after == 1


@pytest.mark.slow
def test_it_is_remembered_where_a_run_goes_on(begin):
    trainer = begin(-1.0)

    def stop(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    trainer.add_callback("on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    last = str(trainer.last)
    begin(1.0)  # it is not measured again, or it would teach on
    resumed = DistillationTrainer(overrides={"model": last, "resume": last})
    resumed.train()
    assert taught(resumed) == [True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"kd_until": 1.0}, {"match": "some"}])
def test_one_that_is_better_or_is_not_to_rest_teaches_to_the_end(changes, begin):
    trainer = begin(2.0 if not changes else -1.0, **changes)
    (trainer.save_dir / TEACHER_ON_VAL).write_text(json.dumps({"map": -1.0}))  # of another run in this folder
    trainer.train()
    assert taught(trainer) == [True] * 3
    assert (trainer.save_dir / TEACHER_ON_VAL).exists() is (not changes)


def test_a_real_teacher_is_measured_once_and_draws_nothing(settings, make_teacher, names, monkeypatch):
    measured = []
    measure = passing.measure_teachers

    def look(*given, **more):
        measured.append(given)
        return measure(*given, **more)

    monkeypatch.setattr(passing, "measure_teachers", look)
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher})
    before = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    trainer._measure_teacher()
    assert (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == before
    kept = passing.teacher_on_val(trainer.save_dir, trainer.recipe, settings["data"], imgsz=64)
    assert len(measured) == 1
    assert kept["map"] == pytest.approx(0, abs=0.2)


def test_one_that_cannot_be_measured_is_said(begin, monkeypatch):
    trainer = begin(0.5)
    said: list[str] = []
    monkeypatch.setattr(passing.LOGGER, "info", said.append)

    def refuse(*_, **__):
        raise RequestError("holds answers")

    monkeypatch.setattr(passing, "measure_teachers", refuse)
    trainer._measure_teacher()
    assert said == [f"{passing.PREFIX}the teacher teaches to the end, as it is not measured: holds answers"]
    assert not (trainer.save_dir / TEACHER_ON_VAL).exists()
