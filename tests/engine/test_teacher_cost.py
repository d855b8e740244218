"""How fast a run goes: precisions of student and teacher, when the teacher is asked, and what the run says of it."""

from __future__ import annotations

import csv
import logging

import pytest
import torch
from ultralytics import YOLO

from yolo_distill.engine import teacher_cost
from yolo_distill.engine.auto_batch import WithTeacher
from yolo_distill.engine.step_cost import FullPrecisionLoss, choose_student_precision
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.teachers import precision
from yolo_distill.teachers.precision import Difference
from yolo_distill.teachers.yolo import TorchForward


def rows(trainer) -> list[dict[str, str]]:
    return list(csv.DictReader((trainer.save_dir / "results.csv").read_text().splitlines()))


def said(caplog) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture
def with_bf16(monkeypatch):
    """A machine that gains by bf16, whatever this one does."""
    has = lambda device: ("fp32", "bf16", "int8")  # noqa: E731
    monkeypatch.setattr("yolo_distill.engine.step_cost.machine_precisions", has)
    monkeypatch.setattr("yolo_distill.teachers.precision.machine_precisions", has)


@pytest.mark.slow
def test_a_student_in_bf16(settings, make_teacher, names, with_bf16, caplog):
    caplog.set_level(logging.INFO)
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(
        overrides={
            **settings,
            "model": "yolo26n.yaml",
            "teacher": teacher,
            "recipe": "taught",
            "amp": "bf16",
            "epochs": 2,
        }
    )
    seen = []

    def look(trainer):
        seen.append((trainer.amp, trainer.scaler.is_enabled(), type(trainer.criterion.host)))
        seen.append(next(trainer.model.parameters()).dtype)

    def remember(trainer):
        args = torch.load(trainer.last, weights_only=False)["train_args"]
        kept.append((args["amp"], args["distill"]["teacher_precision"]))

    kept = []
    trainer.add_callback("on_train_start", look)
    trainer.add_callback("on_model_save", remember)
    trainer.train()
    assert seen == [(True, False, FullPrecisionLoss), torch.float32]
    assert "yolo26n in bf16, losses in fp32; amp=False trains in fp32" in said(caplog)
    assert all(float(row["train/logit_loss"]) > 0 for row in rows(trainer))
    assert not isinstance(trainer.ema.ema.criterion, FullPrecisionLoss)  # validation is in fp32
    # A run that is resumed goes on in the same precisions, whatever it would measure by then.
    assert kept == [("bf16", trainer.recipe.teacher_precision)] * 2
    assert trainer.recipe.teacher_precision != "auto"
    weights = YOLO(trainer.last).model.state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())
    # Older releases of the host can't fuse weights in another order.
    assert all(value.is_contiguous() for value in weights.values())


def test_a_precision_that_was_chosen_is_not_measured_again(monkeypatch):
    monkeypatch.setattr("yolo_distill.engine.step_cost.machine_precisions", lambda device: pytest.fail("measured"))
    nothing = torch.zeros(0)
    assert choose_student_precision(torch.nn.Identity(), nothing, "bf16") == "bf16"
    assert choose_student_precision(torch.nn.Identity(), nothing, "fp32") == "fp32"


@pytest.mark.slow
def test_bf16_and_fp32_start_with_the_same_losses(settings, make_teacher, names, with_bf16):
    losses = {}
    for amp in ("bf16", False):
        trainer = DistillationTrainer(
            overrides={
                **settings, "model": "yolo26n.yaml", "teacher": str(make_teacher("yolo26s.yaml", names)), "amp": amp,
                "recipe": "taught",
                "name": str(amp), "teacher_precision": "fp32", "lr0": 1e-6, "optimizer": "SGD",
            }
        )  # fmt: skip
        trainer.train()
        losses[amp] = {key: float(value) for key, value in rows(trainer)[0].items() if key.startswith("train/")}
    # Processors round the sums of bf16 products differently, and an anchor more or less that is assigned to one of the
    # few boxes here is a lot: those with AMX are 0.1 off in the class loss, 0.25 in the box losses.
    assert losses["bf16"] == pytest.approx(losses[False], rel=0.4)
    assert losses["bf16"] != losses[False]


@pytest.mark.slow
def test_a_run_without_terms_and_a_teachers_own_run_go_as_fast(settings, with_bf16):
    own = {**settings, "model": "yolo26n.yaml", "amp": "bf16"}
    nothing = {"teacher": "-", "init": "student", "logit": 0, "localization": 0}
    losses = []
    for kind, overrides in ((DistillationTrainer, {**nothing, "name": "alone"}), (TeacherTrainer, {"name": "teacher"})):
        trainer = kind(overrides={**own, **overrides})
        trainer.train()
        assert trainer.precision == "bf16"
        assert trainer.amp is True
        losses.append({key: value for key, value in rows(trainer)[0].items() if "loss" in key})
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_run_says_what_its_teacher_costs(settings, make_teacher, names, caplog):
    caplog.set_level(logging.INFO)
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(
        overrides={
            **settings,
            "model": "yolo26n.yaml",
            "teacher": teacher,
            "teacher_precision": "int8",
            "recipe": "taught",
        }
    )
    trainer.train()
    (line,) = (line for line in said(caplog).splitlines() if "teacher: yolo26s" in line)
    assert "int8 by ONNX Runtime, +" in line
    assert "% per step" in line
    assert not isinstance(trainer.criterion.teacher.forward, TorchForward)
    assert trainer.pace["teacher"] == "yolo26s, int8 by ONNX Runtime"
    assert trainer.pace["step"] >= 1


def test_a_run_keeps_that_its_teachers_answers_are_off(settings, tiny_pair, monkeypatch):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "bf16"))
    monkeypatch.setattr(precision, "difference", lambda *args: Difference(0.5, 0.0, 0.0))
    own = {**tiny_pair, "teacher_precision": "bf16", "recipe": "taught"}
    trainer = DistillationTrainer(overrides={**settings, **own})
    trainer._setup_train()
    assert trainer.pace["off"].startswith("scores 0.5000")


def test_a_dear_teacher_is_warned_of(settings, tiny_pair, caplog, monkeypatch):
    monkeypatch.setattr(teacher_cost, "price_of_teaching", lambda *args: 2.6)
    own = {**tiny_pair, "recipe": "taught"}
    trainer = DistillationTrainer(overrides={**settings, **own})
    trainer._setup_train()
    warnings = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    (warning,) = (warning for warning in warnings if "teacher" in warning)
    assert "takes 2.6 times the student's own step" in warning
    assert "kd_until=0.5" in warning


def test_the_teacher_rests_in_the_last_part(train, tiny_pair):
    trainer = train(**tiny_pair, epochs=2, kd_until=0.5)
    assert [float(row["train/logit_loss"]) > 0 for row in rows(trainer)] == [True, False]


def test_automatic_batch_size_counts_the_teacher(settings, tiny_pair, monkeypatch):
    given = []

    def look(model, **kwargs):
        given.append(type(model))
        return 4

    monkeypatch.setattr("ultralytics.engine.trainer.check_train_batch_size", look)
    own = {**tiny_pair, "recipe": "taught", "batch": -1}
    trainer = DistillationTrainer(overrides={**settings, **own})
    trainer._setup_train()
    assert given == [WithTeacher]
    assert not isinstance(trainer.model, WithTeacher)
    assert trainer.batch_size == 4
