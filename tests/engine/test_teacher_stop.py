"""A teacher rests once its student is better than it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from yolo_distill.engine import teacher_setup, teacher_stop
from yolo_distill.engine.gradient_shares import read_columns
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
    assert teacher_stop.epochs_until_passed(curve, 0.3) == done


@pytest.fixture
def begin(make_trainer, monkeypatch):
    """Return a function that makes a trainer whose teacher has a made mAP on val."""

    def make(teacher_map: float, **changes) -> DistillationTrainer:
        monkeypatch.setattr(teacher_stop, "measure_teachers", lambda *_, **__: {"map": teacher_map, "task": "detect"})
        return make_trainer(**{"epochs": 3, "ramp_epochs": 0.0, "teach": True, **changes})

    return make


def taught(trainer: DistillationTrainer) -> list[bool]:
    return [loss > 0 for loss in read_columns(trainer.csv)["train/logit_loss"]]


def measured(trainer: DistillationTrainer) -> float | None:
    trainer.teacher_stop.measure_teacher(trainer.recipe, trainer.teachers, trainer.args)
    return trainer.teacher_stop.teacher_map


def test_a_teacher_that_is_passed_rests_also_where_the_run_goes_on(begin):
    trainer = begin(-1.0)  # even a student that finds nothing is better

    def stop(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    trainer.add_callback("on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.teacher_stop.passed_after == 1
    last = str(trainer.last)
    resumed = DistillationTrainer(overrides={"model": last, "resume": last})
    resumed.train()
    assert taught(resumed) == [True, False, False]
    assert read_columns(resumed.csv)["share/logit"][1:] == [0, 0]


@pytest.mark.parametrize(("task", "passed"), [("segment", 1), ("detect", None)])
def test_one_of_another_task_is_passed_by_boxes(task, passed, begin, tmp_path):
    trainer = begin(0.4)
    trainer.args.task = task
    measured(trainer)
    boxes, masks = ("0.5", "0.3") if task == "segment" else ("0.3", "0.5")
    (tmp_path / "results.csv").write_text(f"epoch,metrics/mAP50-95(B),metrics/mAP50-95(M)\n1,{boxes},{masks}\n")
    if task == "detect":
        (tmp_path / "results.csv").write_text("epoch,metrics/mAP50-95(B)\n1,0.3\n")
    trainer.teacher_stop.compare(trainer.recipe, tmp_path / "results.csv")
    assert trainer.teacher_stop.passed_after == passed


@pytest.mark.slow
def test_one_that_is_better_teaches_to_the_end(begin):
    trainer = begin(2.0, epochs=2)
    trainer.train()
    assert taught(trainer) == [True] * 2


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
def test_one_that_is_not_to_rest_is_not_measured(changes, begin):
    trainer = begin(-1.0)
    trainer.args.val = changes.pop("val", True)
    trainer.recipe = trainer.recipe.model_copy(update=changes)
    assert measured(trainer) is None


def test_it_is_measured_as_the_student_will_be_and_draws_nothing(make_trainer, settings, monkeypatch):
    asked = {}
    monkeypatch.setattr(teacher_setup, "evaluate", lambda *own, **how: asked.update(how) or evaluate(*own, **how))
    trainer = make_trainer(nms=False, max_det=50)
    before = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    assert measured(trainer) == pytest.approx(0, abs=0.2)
    assert (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == before
    as_asked = {"rect": True, "nms": False, "max_det": 50, "split": "val", "imgsz": settings["imgsz"]}
    assert as_asked.items() <= asked.items()


def test_one_that_cannot_be_measured_is_said(begin, monkeypatch, said):
    def refuse(*_, **__):
        raise RequestError("holds answers")

    trainer = begin(0.5)
    monkeypatch.setattr(teacher_stop, "measure_teachers", refuse)
    assert measured(trainer) is None
    assert "the teacher teaches to the end, as it is not measured: holds answers" in said()
