"""Real runs of a few steps: every pair of families, checkpoints, resume, and the plain run as a special case."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from yolo_distill.engine import trainer as trainer_module
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError
from yolo_distill.recipe import USUAL
from yolo_distill.teachers.precision import machine_precisions

TERMS = ("train/logit_loss", "train/local_loss", "train/cwd_loss")


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


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
    row = read_csv(trainer.save_dir)[-1]
    for term in TERMS:
        assert float(row[term]) > 0, term
    for share in ("share/logit", "share/localization", "share/cwd"):
        assert float(row[share]) > 0, share
    assert not [key for key in row if key.startswith("val/") and "logit" in key]
    model = YOLO(trainer.last).model
    assert type(model) is DetectionModel
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["fp32", "bf16"])  # by name: which is faster is timed, and noise decides at this size
def test_all_gains_zero_is_the_plain_run_to_the_last_bit(amp, settings, train, make_teacher, names):
    if amp not in machine_precisions("cpu"):
        pytest.skip(f"this CPU does not gain by {amp}")
    amp = amp != "fp32" and amp
    plain = TeacherTrainer(overrides={**settings, "model": "yolo26n.yaml", "name": "plain", "epochs": 2, "amp": amp})
    plain.train()
    ours = train(
        model="yolo26n.yaml", teacher=make_teacher("yolo26s.yaml", names), init="student", logit=0, localization=0,
        cwd=0, epochs=2, amp=amp,
    )  # fmt: skip
    theirs, own = read_csv(plain.save_dir), read_csv(ours.save_dir)
    assert [{k: v for k, v in row.items() if k != "time"} for row in own] == [
        {k: v for k, v in row.items() if k != "time"} for row in theirs
    ]
    expected, got = weights_of(plain.last), weights_of(ours.last)
    assert all(torch.equal(value, got[key]) for key, value in expected.items())


@pytest.mark.slow
def test_pictures_come_in_the_same_order_with_and_without_a_teacher(settings, train, make_teacher, names):
    seen: dict[str, list[float]] = {}

    class Watching:
        def preprocess_batch(self, batch):
            batch = super().preprocess_batch(batch)
            seen.setdefault(self.args.name, []).append(float(batch["img"].double().sum()))
            return batch

    class Plain(Watching, DetectionTrainer):
        pass

    class Ours(Watching, DistillationTrainer):
        pass

    Plain(overrides={**settings, "model": "yolo26n.yaml", "name": "plain"}).train()
    teacher = str(make_teacher("yolo26s.yaml", names))
    Ours(overrides={**settings, "model": "yolo26n.yaml", "name": "ours", "teacher": teacher, "cwd": 1.0}).train()
    assert seen["plain"] == seen["ours"]
    assert len(seen["plain"]) > 1


@pytest.mark.slow
def test_through_the_hosts_own_front_door(settings, make_teacher, names):
    model = YOLO("yolo26n.yaml")
    teacher = str(make_teacher("yolo26s.yaml", names))
    model.train(trainer=DistillationTrainer, teacher=teacher, recipe="taught", **settings)
    assert isinstance(model.trainer, DistillationTrainer)
    assert float(read_csv(model.trainer.save_dir)[-1]["train/logit_loss"]) > 0


def test_the_student_starts_from_the_teacher_when_it_has_no_weights(settings, tiny_student, tiny_teacher, tiny_pair):
    evenly = {**tiny_pair, "init_channels": "even", "init_fit": False}
    for init, starts in (("auto", True), ("teacher", True), ("student", False)):
        trainer = DistillationTrainer(overrides={**settings, **evenly, "init": init, "exist_ok": True})
        model = trainer.get_model(tiny_student, None, verbose=False)
        first = weights_of(tiny_teacher)["model.0.conv.weight"][::2]
        assert torch.equal(model.state_dict()["model.0.conv.weight"], first) is starts, init


def test_a_student_with_weights_keeps_them(settings, tiny_student, tiny_teacher, make_teacher, names, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(trainer_module.LOGGER, "info", said.append)
    own = make_teacher(tiny_student, names)
    trainer = DistillationTrainer(overrides={**settings, "model": str(own), "teacher": tiny_teacher})
    weights = load_checkpoint(own)[0]
    model = trainer.get_model(weights.yaml, weights, verbose=False)
    assert torch.equal(model.state_dict()["model.0.conv.weight"], weights.state_dict()["model.0.conv.weight"])
    assert any("init=teacher would start it inside the teacher" in line for line in said)


@pytest.mark.parametrize(
    ("given", "gain"),
    [
        ({"recipe": "taught"}, USUAL["cwd"]),
        ({"init_fit": False}, USUAL["cwd"]),
        ({"init": "student"}, 0.0),
        ({"recipe": "taught", "cwd": 0.0}, 0.0),
        ({"logit": 0.0, "localization": 0.0}, 0.0),
    ],
)
def test_a_student_inside_its_teacher_is_taught_its_maps(given, gain, settings, tiny_pair):
    trainer = DistillationTrainer(overrides={**settings, **tiny_pair, **given})
    trainer.setup_model()
    trainer.set_model_attributes()
    assert trainer.recipe.gains.get("cwd", 0.0) == gain
    assert bool(len(trainer.projectors)) is (gain > 0)
    assert yaml.safe_load((trainer.save_dir / "recipe.yaml").read_text())["cwd"] == gain


def test_layers_that_do_not_correspond(settings, make_teacher, names):
    teacher = str(make_teacher("yolo11s.yaml", names))
    trainer = DistillationTrainer(
        overrides={**settings, "model": "yolov8n.yaml", "teacher": teacher, "init": "teacher"}
    )
    with pytest.raises(RequestError, match=r"init=teacher: only \d+%.*init=student"):
        trainer.get_model("yolov8n.yaml", None, verbose=False)
    trainer = DistillationTrainer(overrides={**settings, "model": "yolov8n.yaml", "teacher": teacher, "init": "auto"})
    trainer.get_model("yolov8n.yaml", None, verbose=False)  # said, and the student starts on its own


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"teacher": ""}, "teacher"),
        ({"logit": -1}, "logit=-1: input should be greater than or equal to 0"),
        ({"recipe": "defualt"}, "did you mean 'default'"),
    ],
)
def test_bad_recipe_settings(settings, bad, message):
    with pytest.raises(RequestError, match=message):
        DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", "teacher": "t.pt", **bad})
    assert not (Path(settings["project"]) / "run").exists()


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
    own = {**tiny_pair, "cwd": 1.0}
    overrides = {**settings, **own, "epochs": 3}
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
    saved = load_checkpoint(last)[1]  # whole, whatever the moment
    assert saved["epoch"] == (0 if in_save else 1)
    trainer = DistillationTrainer(overrides={"model": str(last), "resume": str(last)})
    assert trainer.recipe.cwd == 1.0
    loaded = []
    trainer.add_callback("on_train_start", lambda t: loaded.append((t.start_epoch, t.criterion.steps)))
    trainer.train()
    batches = len(trainer.train_loader)
    assert loaded == [(saved["epoch"] + 1, (saved["epoch"] + 1) * batches)]
    assert [int(row["epoch"]) for row in read_csv(trainer.save_dir)] == [1, 2, 3]
    projectors = torch.load(tmp_path / "run" / "weights" / "projectors.pt", weights_only=True)
    assert set(projectors) == {1, 2}
    assert not (tmp_path / "run" / "weights" / ".saving").exists()


def test_resume_of_a_plain_run_is_refused(settings, tiny_student):
    plain = DetectionTrainer(overrides={**settings, "model": tiny_student, "epochs": 2})
    plain.add_callback("on_model_save", lambda t: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        plain.train()
    with pytest.raises(RequestError, match="not a checkpoint of a distillation run"):
        DistillationTrainer(overrides={"model": str(plain.last), "resume": str(plain.last)})


def test_recovery_from_nan_restores_projectors_and_keeps_the_teacher_out_of_the_ema(settings, tiny_pair):
    own = {**tiny_pair, "cwd": 1.0, "kd_until": 1.0}
    trainer = DistillationTrainer(overrides={**settings, **own, "epochs": 3})
    spoiled, states = [], []

    def spoil(trainer):
        if trainer.epoch == 1 and not spoiled:
            spoiled.append(True)
            states.append({k: v.clone() for k, v in trainer.projectors.state_dict().items()})
            for parameter in trainer.projectors.parameters():
                parameter.data.fill_(float("nan"))

    def look(trainer):
        if trainer.epoch == 1 and trainer.nan_recovery_attempts:
            states.append({k: v.clone() for k, v in trainer.projectors.state_dict().items()})

    trainer.add_callback("on_train_epoch_start", spoil)
    trainer.add_callback("on_train_epoch_start", look)
    trainer.train()
    before, after = states
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not isinstance(trainer.ema.ema.criterion, type(trainer.criterion))
    assert all(torch.isfinite(p).all() for p in trainer.projectors.parameters())
    assert [int(row["epoch"]) for row in read_csv(trainer.save_dir)] == [1, 2, 3]


def test_a_teacher_with_a_coarser_level_needs_its_own_multiple(settings, tiny_student, make_teacher, names):
    teacher = str(make_teacher("yolo26n-p6.yaml", names))
    for change in ({"imgsz": 96}, {"multi_scale": 0.5}, {"rect": True}):
        trainer = DistillationTrainer(
            overrides={
                **settings,
                "model": tiny_student,
                "teacher": teacher,
                "init": "student",
                **change,
                "exist_ok": True,
            }
        )
        with pytest.raises(RequestError, match="the teacher takes multiples of 64 only; use imgsz="):
            trainer.train()


@pytest.mark.parametrize("layers", [3, 5])  # of the three maps some, and all
def test_frozen_layers_have_no_share(layers, train, tiny_pair, caplog):
    own = {**tiny_pair, "freeze": layers}
    trainer = train(**own, init="student", ramp_epochs=0, pkd=1.0)
    assert ("pkd teach nothing: freeze= covers all layers" in caplog.text) == (layers == 5)
    share = float(read_csv(trainer.save_dir)[0]["share/logit"])
    assert share > 0 if layers == 3 else math.isnan(share)
    if layers == 5:
        with pytest.raises(RequestError, match="balance=auto: freeze= covers the student's neck"):
            train(**own, balance="auto", name="balanced")


def test_classes_that_are_left_out_are_not_taught(settings, tiny_pair):
    own = {**tiny_pair, "recipe": "taught", "classes": [1]}
    trainer = DistillationTrainer(overrides={**settings, **own})
    trainer.setup_model()
    trainer.set_model_attributes()
    assert trainer._terms.classes.student == [1]


def test_under_musgd_the_projectors_learn_at_the_base_rate(settings, tiny_pair):
    own = {**tiny_pair, "cwd": 1.0, "optimizer": "MuSGD"}
    trainer = DistillationTrainer(overrides={**settings, **own})
    trainer._setup_train()
    rates = [g["initial_lr"] for g in trainer.optimizer.param_groups if g["param_group"] == "projector"]
    assert rates == [trainer.args.lr0]


def test_a_recipe_from_python_holds_no_settings_of_the_host(settings, tiny_pair, tmp_path):
    (tmp_path / "mine.yaml").write_text("logit: 2.0\noptimizer: SGD\n")
    own = {**tiny_pair, "recipe": str(tmp_path / "mine.yaml")}
    with pytest.raises(RequestError, match=r"holds settings of Ultralytics \(optimizer\), which are given to train"):
        DistillationTrainer(overrides={**settings, **own})
    (tmp_path / "mine.yaml").write_text("logit: 2.0\n")
    assert DistillationTrainer(overrides={**settings, **own}).recipe.logit == 2.0
