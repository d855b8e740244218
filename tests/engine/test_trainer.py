"""Real runs of a few steps: every pair of families, checkpoints, resume, and the plain run as a special case."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny_yolo import write_architecture
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.summary import SUMMARY
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError
from yolo_distill.recipe import USUAL


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("yolo26n", "yolo26s"),  # end-to-end both, no bins
        ("yolo11n", "yolo11s"),  # bins both
        ("yolov8n", "yolo26s"),  # end-to-end teacher, student with bins and one branch
        ("yolo26n", "yolov8s"),  # end-to-end student, its one-to-one branch taught by what survives NMS
        ("yolov10n", "yolov10s"),  # end-to-end with bins
        ("yolo12n", "yolo12s"),
        ("yolo26n", "yolo26n-p2"),  # the teacher has a level more below
        ("yolo26n-p6", "yolo26s"),  # the student has a level more above
    ],
)
def test_pairs(student, teacher, train, make_teacher, names):
    trainer = train(model=f"{student}.yaml", teacher=make_teacher(f"{teacher}.yaml", names), cwd=1.0)
    columns = read_columns(trainer.csv)
    for column in [f"train/{term}_loss" for term in ("logit", "local", "cwd")] + ["share/localization", "share/cwd"]:
        assert columns[column][-1] > 0, column
    model = YOLO(trainer.last).model
    assert type(model) is DetectionModel
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["fp32", "bf16"])  # by name: which is faster is timed, and noise decides at this size
def test_all_gains_zero_is_the_plain_run_to_the_last_bit(amp, settings, make_trainer):
    own = {"model": "yolo26n.yaml", "epochs": 2, "amp": amp != "fp32" and amp}
    plain = TeacherTrainer(overrides={**settings, **own, "name": "plain"})
    plain.train()
    ours = make_trainer(**own, init="student", logit=0, localization=0)
    ours.train()
    theirs, found = ({**read_columns(t.csv), "time": []} for t in (plain, ours))
    assert found == theirs
    assert plain.precision.chosen == ours.precision.chosen == amp
    expected, got = weights_of(plain.last), weights_of(ours.last)
    assert all(torch.equal(value, got[key]) for key, value in expected.items())


def test_pictures_come_in_the_same_order_with_and_without_a_teacher(settings, make_trainer, monkeypatch):
    seen: dict[str, list[float]] = {}
    preprocess = DetectionTrainer.preprocess_batch

    def watch(self, batch):
        batch = preprocess(self, batch)
        seen.setdefault(self.args.name, []).append(float(batch["img"].double().sum()))
        return batch

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", watch)
    ours = make_trainer(name="ours", recipe="taught")
    ours.train()
    DetectionTrainer(overrides={**settings, "model": ours.args.model, "name": "plain"}).train()
    assert seen["plain"] == seen["ours"]
    assert len(seen["plain"]) > 1


@pytest.mark.slow
def test_through_the_hosts_own_front_door(settings, large, said):
    model = YOLO("yolo26n.yaml")
    model.train(trainer=DistillationTrainer, teacher=large, recipe="taught", **settings)
    assert isinstance(model.trainer, DistillationTrainer)
    assert read_columns(model.trainer.csv)["train/logit_loss"][-1] > 0
    assert "Teacher and student on val at 64 px, by the one-to-many branch and NMS, 0 to 100:" in said()
    assert "Overriding model.yaml" not in said()
    assert ".saving" not in said()
    assert re.search(r"^ +0 to 100 +\d+ +\d+ +\d+\.\d ", said(), re.MULTILINE)


@pytest.mark.parametrize(
    ("student", "classes", "more", "says"),
    [
        (None, {0: "cat", 1: "dog"}, {}, "no class in common|knows none|does not know"),
        ("yolo26n.yaml", None, {}, r"student=yolo26n.yaml is larger than its teacher=.*; swap the two, or give"),
        (None, None, {"teacher_epochs": 3}, "is yet to be trained, which only yolo-distill train does; give weights"),
    ],
)
def test_the_hosts_front_door_refuses_what_the_command_refuses(
    student, classes, more, says, settings, make_teacher, names, tiny_student, tmp_path
):
    teacher = make_teacher(str(write_architecture(tmp_path / "wide.yaml", width=2)), classes or names)
    with pytest.raises(RequestError, match=says):
        YOLO(student or tiny_student).train(trainer=DistillationTrainer, teacher=teacher, **settings, **more)


@pytest.mark.parametrize("key", ["distill_model", "quantize"])
def test_settings_that_have_no_place_are_refused_by_the_trainer_too(key, make_trainer):
    with pytest.raises(RequestError, match=f"^{key}= does not belong here"):
        make_trainer(**{key: "8"})


def test_a_run_in_the_folder_of_another_one_has_not_its_summary(make_trainer):
    trainer = make_trainer(init="student")
    (trainer.save_dir / SUMMARY).write_text("{}")
    trainer._setup_train()
    assert not (trainer.save_dir / SUMMARY).exists()


def test_the_student_starts_from_the_teacher_when_it_has_no_weights(make_trainer, tiny_student, tiny_teacher):
    for init, starts in (("auto", True), ("teacher", True), ("student", False)):
        trainer = make_trainer(init_channels="even", init_fit=False, init=init, exist_ok=True)
        model = trainer.get_model(tiny_student, None, verbose=False)
        first = weights_of(tiny_teacher)["model.0.conv.weight"][::2]
        assert torch.equal(model.state_dict()["model.0.conv.weight"], first) is starts, init


def test_a_student_with_weights_keeps_them(make_trainer, tiny_student, make_teacher, names, said):
    own = make_teacher(tiny_student, names)
    weights = load_checkpoint(own)[0]
    model = make_trainer(model=str(own)).get_model(weights.yaml, weights, verbose=False)
    assert torch.equal(model.state_dict()["model.0.conv.weight"], weights.state_dict()["model.0.conv.weight"])
    assert "init=teacher would start it inside the teacher" in said()


@pytest.mark.parametrize(
    ("given", "gain"),
    [
        ({"recipe": "taught"}, USUAL["cwd"]),
        ({"init_fit": False}, USUAL["cwd"]),
        ({"init": "student"}, 0.0),
        pytest.param({"recipe": "taught", "cwd": 0.0}, 0.0, marks=pytest.mark.slow),
        pytest.param({"logit": 0.0, "localization": 0.0}, 0.0, marks=pytest.mark.slow),
    ],
)
def test_a_student_inside_its_teacher_is_taught_its_maps(given, gain, make_trainer):
    trainer = make_trainer(**given)
    trainer.setup_model()
    trainer.set_model_attributes()
    assert trainer.recipe.gains.get("cwd", 0.0) == gain
    assert bool(len(trainer.projectors)) is (gain > 0)
    assert yaml.safe_load((trainer.save_dir / "recipe.yaml").read_text())["cwd"] == gain


def test_a_recipe_from_python_holds_no_settings_of_the_host(make_trainer, tmp_path):
    (tmp_path / "mine.yaml").write_text("logit: 2.0\noptimizer: SGD\n")
    with pytest.raises(RequestError, match=r"holds settings of Ultralytics \(optimizer\), which are given to train"):
        make_trainer(recipe=str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("logit: 2.0\n")
    assert make_trainer(recipe=str(tmp_path / "mine.yaml")).recipe.logit == 2.0


RUN = """
import sys
from yolo_distill.engine.trainer import DistillationTrainer
class Slow(DistillationTrainer):
    def optimizer_step(self):
        super().optimizer_step()
        print("step", self.epoch, flush=True)
    def save_model(self):
        if {in_save} and self.epoch == 1:
            from pathlib import Path
            real = Path.write_bytes
            def half(path, data):
                if path.name != "last.pt":
                    return real(path, data)
                real(path, data[: len(data) // 2])
                print("half", flush=True)
                import time; time.sleep(60)
            Path.write_bytes = half
        return super().save_model()
Slow(overrides={overrides!r}).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize("in_save", [False, True], ids=["in the middle of an epoch", "while it saves"])
def test_a_killed_run_goes_on_to_the_same_epoch_count(in_save, settings, tiny_pair, tmp_path):
    overrides = {**settings, **tiny_pair, "cwd": 1.0, "epochs": 3}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN.format(in_save=in_save, overrides=overrides)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
    )  # fmt: skip
    for line in process.stdout:
        if line.strip() == ("half" if in_save else "step 2"):
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL

    last = tmp_path / "run" / "weights" / "last.pt"
    epochs = load_checkpoint(last)[1]["epoch"] + 1  # whole, whatever the moment
    assert epochs == (1 if in_save else 2)
    trainer = DistillationTrainer(overrides={"model": str(last), "resume": str(last)})
    assert trainer.recipe.cwd == 1.0
    loaded = []
    trainer.add_callback("on_train_start", lambda t: loaded.append((t.start_epoch, t.criterion.steps)))
    trainer.train()
    assert loaded == [(epochs, epochs * len(trainer.train_loader))]
    assert read_columns(trainer.csv)["epoch"] == [1, 2, 3]
    assert set(torch.load(last.with_name("projectors.pt"), weights_only=True)) == {1, 2}
    assert not (last.parent / ".saving").exists()


def test_resume_of_a_plain_run_is_refused(settings, tiny_student):
    plain = DetectionTrainer(overrides={**settings, "model": tiny_student, "epochs": 2})
    plain.add_callback("on_model_save", lambda t: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        plain.train()
    with pytest.raises(RequestError, match="not a checkpoint of a distillation run"):
        DistillationTrainer(overrides={"model": str(plain.last), "resume": str(plain.last)})


@pytest.mark.slow
def test_recovery_from_nan_restores_projectors_and_keeps_the_teacher_out_of_the_ema(make_trainer):
    trainer = make_trainer(cwd=1.0, kd_until=1.0, epochs=3)
    states, steps = [], []

    def spoil_once(trainer):
        if trainer.epoch == 1:
            states.append({k: v.clone() for k, v in trainer.projectors.state_dict().items()})
        if trainer.epoch == 1 and not trainer.nan_recovery_attempts:
            for parameter in trainer.projectors.parameters():
                parameter.data.fill_(float("nan"))

    trainer.add_callback("on_train_epoch_start", spoil_once)
    trainer.add_callback("on_train_batch_start", lambda t: steps.append(t.criterion.steps))
    trainer.train()
    before, after = states
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not isinstance(trainer.ema.ema.criterion, type(trainer.criterion))
    assert all(torch.isfinite(p).all() for p in trainer.projectors.parameters())
    assert read_columns(trainer.csv)["epoch"] == [1, 2, 3]
    assert steps == [0, 1, 2, 3, 2, 3, 4, 5]  # where it is counts from the epoch that begins again


@pytest.mark.slow
def test_a_run_that_begins_again_with_half_the_batch_counts_anew(make_trainer, monkeypatch):
    trainer = make_trainer(recipe="taught", ramp_epochs=1.0)
    seen, split = [], DetectionTrainer.preprocess_batch

    def fill_the_memory(self, batch):
        if self.batch_size == 4 and seen:
            raise RuntimeError("out of memory")
        seen.append((self.criterion.steps, self.criterion.course.total))
        return split(self, batch)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", fill_the_memory)
    trainer.train()
    assert seen == [(0, 2), (0, 4), (1, 4), (2, 4), (3, 4)]


def test_a_teacher_with_a_coarser_level_needs_its_own_multiple(make_trainer, make_teacher, names, tmp_path):
    coarser = write_architecture(tmp_path / "tiny-p6.yaml", width=2)
    plan = coarser.read_text().replace("- [[2, 3, 4], 1,", "- [-1, 1, Conv, [32, 3, 2]]\n- [[2, 3, 4, 5], 1,")
    coarser.write_text(plan)
    own = {"teacher": str(make_teacher(str(coarser), names)), "init": "student", "exist_ok": True}
    for change in ({"imgsz": 96}, {"multi_scale": 0.5}, {"rect": True}):
        with pytest.raises(RequestError, match="the teacher takes multiples of 64 only; use imgsz="):
            make_trainer(**own, **change).train()


@pytest.mark.parametrize("layers", [pytest.param(3, marks=pytest.mark.slow), 5])  # of the three maps some, and all
def test_frozen_layers_have_no_share(layers, train, tiny_pair, said):
    own = {**tiny_pair, "freeze": layers}
    trainer = train(**own, init="student", ramp_epochs=0, pkd=1.0)
    assert ("pkd teach nothing: freeze= covers all layers" in said()) == (layers == 5)
    share = read_columns(trainer.csv)["share/logit"][0]
    assert share > 0 if layers == 3 else math.isnan(share)
    if layers == 5:
        with pytest.raises(RequestError, match="balance=auto: freeze= covers the student's neck"):
            train(**own, teach=True, balance="auto", name="balanced")


def test_what_training_is_set_up_with(make_trainer):
    trainer = make_trainer(recipe="taught", classes=[1], optimizer="MuSGD")
    trainer._setup_train()
    assert trainer.teaching.terms.classes.student == [1]  # classes that are left out are not taught
    # Under MuSGD, which has groups at three times the rate, the projectors learn at the base rate.
    rates = [g["initial_lr"] for g in trainer.optimizer.param_groups if g["param_group"] == "projector"]
    assert rates == [trainer.args.lr0]
