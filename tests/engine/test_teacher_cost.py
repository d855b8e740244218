"""How fast a run goes: precisions of student and teacher, when the teacher is asked, and what the run says of it."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from ultralytics import YOLO

from yolo_distill.engine import teacher_cost
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.step_cost import FullPrecisionLoss, choose_student_precision
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.teaching import WithTeacher
from yolo_distill.teachers import precision
from yolo_distill.teachers.precision import Difference
from yolo_distill.teachers.yolo import TorchForward


@pytest.fixture
def with_bf16(monkeypatch):
    """A machine that gains by bf16, whatever this one does."""
    has = lambda device: ("fp32", "bf16", "int8")  # noqa: E731
    monkeypatch.setattr("yolo_distill.engine.step_cost.machine_precisions", has)
    monkeypatch.setattr("yolo_distill.teachers.precision.machine_precisions", has)


@pytest.fixture
def nano(make_trainer, large):
    """Return a function that makes a trainer of a yolo26n taught by a yolo26s."""
    return lambda **own: make_trainer(model="yolo26n.yaml", teacher=large, recipe="taught", **own)


@pytest.mark.slow
def test_a_student_in_bf16(nano, with_bf16, said):
    trainer = nano(amp="bf16", epochs=2, teacher_precision="auto")
    seen, kept = [], []

    def look(trainer):
        seen.append((trainer.amp, trainer.scaler.is_enabled(), type(trainer.criterion.host)))
        seen.append(next(trainer.model.parameters()).dtype)

    def remember(trainer):
        args = torch.load(trainer.last, weights_only=False)["train_args"]
        kept.append((args["amp"], args["distill"]["teacher_precision"]))

    trainer.add_callback("on_train_start", look)
    trainer.add_callback("on_model_save", remember)
    trainer.train()
    assert seen == [(True, False, FullPrecisionLoss), torch.float32]
    assert "yolo26n in bf16, losses in fp32; amp=False trains in fp32" in said()
    assert min(read_columns(trainer.csv)["train/logit_loss"]) > 0
    assert not isinstance(trainer.ema.ema.criterion, FullPrecisionLoss)  # validation is in fp32
    # A run that is resumed goes on in the same precisions, whatever it would measure by then.
    assert kept == [("bf16", trainer.recipe.teacher_precision)] * 2
    assert trainer.recipe.teacher_precision != "auto"
    weights = YOLO(trainer.last).model.state_dict()
    # Older releases of the host can't fuse weights in another order.
    assert all(torch.isfinite(value).all() and value.is_contiguous() for value in weights.values())


def test_a_precision_that_was_chosen_is_not_measured_again(monkeypatch):
    monkeypatch.setattr("yolo_distill.engine.step_cost.machine_precisions", lambda device: pytest.fail("measured"))
    for chosen in ("bf16", "fp32"):
        assert choose_student_precision(torch.nn.Identity(), torch.zeros(0), chosen) == chosen


@pytest.mark.slow
def test_bf16_and_fp32_start_with_the_same_losses(nano, with_bf16):
    losses = {}
    for amp in ("bf16", False):
        trainer = nano(amp=amp, name=str(amp), lr0=1e-6, optimizer="SGD")
        trainer.train()
        losses[amp] = {key: value[0] for key, value in read_columns(trainer.csv).items() if key.startswith("train/")}
    # Processors round the sums of bf16 products differently, and an anchor more or less that is assigned to one of the
    # few boxes here is a lot: those with AMX are 0.1 off in the class loss, 0.25 in the box losses.
    assert losses["bf16"] == pytest.approx(losses[False], rel=0.4)
    assert losses["bf16"] != losses[False]


@pytest.mark.slow
def test_a_run_says_what_its_teacher_costs(nano, said):
    trainer = nano(teacher_precision="int8")
    trainer.train()
    (line,) = (line for line in said().splitlines() if "teacher: yolo26s" in line)
    assert "int8 by ONNX Runtime, +" in line
    assert "% per step" in line
    assert not isinstance(trainer.criterion.teacher.forward, TorchForward)
    assert trainer.teaching_cost["teacher"] == "yolo26s, int8 by ONNX Runtime"
    assert trainer.teaching_cost["step"] >= 1


def test_a_dear_teacher_is_warned_of_and_answers_that_are_off_are_kept(make_trainer, said, monkeypatch):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "bf16"))
    monkeypatch.setattr(precision, "difference", lambda *args: Difference(0.5, 0.0, 0.0))
    monkeypatch.setattr(teacher_cost, "cost_of_teaching", lambda *args: 2.6)
    trainer = make_trainer(teacher_precision="bf16", recipe="taught")
    trainer._setup_train()
    assert trainer.teaching_cost["off"].startswith("scores 0.5000")
    assert re.search("takes 2.6 times the student's own step; .*kd_until=0.5", said(logging.WARNING))


def test_the_teacher_rests_in_the_last_part(train, tiny_pair):
    trainer = train(**tiny_pair, teach=True, epochs=2, kd_until=0.5)
    assert [loss > 0 for loss in read_columns(trainer.csv)["train/logit_loss"]] == [True, False]


def test_automatic_batch_size_counts_the_teacher_and_settles_the_steps(make_trainer, settings, monkeypatch):
    given = []
    monkeypatch.setattr(
        "ultralytics.engine.trainer.check_train_batch_size", lambda model, **_: given.append(model) or 4
    )
    del settings["nbs"]
    trainer = make_trainer(recipe="taught", batch=-1)
    trainer._setup_train()
    assert [type(model) for model in given] == [WithTeacher]
    assert not isinstance(trainer.model, WithTeacher)
    assert trainer.batch_size == trainer.args.nbs == 4
    plain = TeacherTrainer(overrides={**settings, "model": trainer.args.model, "batch": -1, "nbs": 16})
    plain._setup_train()
    assert plain.batch_size == 4
    assert plain.args.nbs == 16  # as it was given
