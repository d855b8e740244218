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
def test_checkpoints_are_plain_and_open_without_this_package(train, make_teacher, names, tmp_path):
    teacher = make_teacher("yolo26s.yaml", names)
    trainer = train(model="yolo26n.yaml", teacher=teacher, cwd=1.0)
    code = (
        "import sys; sys.modules['yolo_distill'] = None\n"
        "from ultralytics import YOLO\n"
        "import numpy as np\n"
        f"model = YOLO({str(trainer.last)!r})\n"
        "model.predict(np.zeros((64, 64, 3), 'uint8'), imgsz=64, verbose=False)\n"
        "print(sum(p.numel() for p in model.model.parameters()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    student = DetectionModel("yolo26n.yaml", nc=len(names), verbose=False)
    fused = sum(p.numel() for p in YOLO(trainer.last).fuse().model.parameters())
    assert int(done.stdout.split()[-1]) <= sum(p.numel() for p in student.parameters())
    assert fused > 0
    # Neither teacher nor projectors are in it.
    assert trainer.last.stat().st_size < 0.75 * teacher.stat().st_size


@pytest.mark.slow
def test_the_teacher_stays_as_it_is(settings, make_teacher, names):
    path = make_teacher("yolo26s.yaml", names)
    own = {"model": "yolo26n.yaml", "teacher": str(path), "recipe": "taught"}
    trainer = DistillationTrainer(overrides={**settings, **own})
    states = []

    def keep(trainer):
        states.append({k: v.clone() for k, v in trainer.criterion.teacher.forward.model.state_dict().items()})

    trainer.add_callback("on_train_start", keep)
    trainer.add_callback("on_train_end", keep)
    trainer.train()
    teacher = trainer.criterion.teacher.forward.model
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in teacher.modules())  # folded
    mine = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not mine & {id(p) for p in teacher.parameters()}
    assert getattr(trainer.ema.ema, "criterion", None) is not trainer.criterion


@pytest.mark.slow
def test_projectors_learn_and_are_in_the_optimizer(settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(
        overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, "cwd": 1.0, "epochs": 2}
    )
    before = []
    trainer.add_callback(
        "on_train_start", lambda t: before.extend(p.detach().clone() for p in t.projectors.parameters())
    )
    trainer.train()
    assert before
    assert all(not torch.equal(a, b) for a, b in zip(before, trainer.projectors.parameters(), strict=True))


@pytest.mark.slow
def test_through_the_hosts_own_front_door(settings, make_teacher, names):
    model = YOLO("yolo26n.yaml")
    teacher = str(make_teacher("yolo26s.yaml", names))
    model.train(trainer=DistillationTrainer, teacher=teacher, recipe="taught", **settings)
    assert isinstance(model.trainer, DistillationTrainer)
    assert float(read_csv(model.trainer.save_dir)[-1]["train/logit_loss"]) > 0


def test_the_student_starts_from_the_teacher_when_it_has_no_weights(settings, make_teacher, names, caplog):
    teacher = make_teacher("yolo26s.yaml", names)
    evenly = {"model": "yolo26n.yaml", "teacher": str(teacher), "init_channels": "even", "init_fit": False}
    for init, starts in (("auto", True), ("teacher", True), ("student", False)):
        trainer = DistillationTrainer(overrides={**settings, **evenly, "init": init, "exist_ok": True})
        model = trainer.get_model("yolo26n.yaml", None, verbose=False)
        first = weights_of(teacher)["model.0.conv.weight"][::2]
        assert torch.equal(model.state_dict()["model.0.conv.weight"], first) is starts, init


def test_a_student_with_weights_keeps_them(settings, make_teacher, names, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(trainer_module.LOGGER, "info", said.append)
    own = make_teacher("yolo26n.yaml", names)
    trainer = DistillationTrainer(
        overrides={**settings, "model": str(own), "teacher": str(make_teacher("yolo26s.yaml", names))}
    )
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
def test_a_student_inside_its_teacher_is_taught_its_maps(given, gain, settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, **given})
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


def test_the_resolved_recipe_is_saved_with_the_run(settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, "logit": 0.3})
    saved = yaml.safe_load((trainer.save_dir / "recipe.yaml").read_text())
    assert saved == trainer.recipe.model_dump()
    assert saved["logit"] == 0.3
    assert "distill" not in yaml.safe_load((trainer.save_dir / "args.yaml").read_text())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"teacher": ""}, "teacher"),
        ({"logit": -1}, "logit=-1: input should be greater than or equal to 0"),
        ({"logit": float("nan")}, "logit"),
        ({"init": "random"}, "init=random"),
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
def test_a_killed_run_goes_on_to_the_same_epoch_count(in_save, settings, make_teacher, names, tmp_path):
    teacher = str(make_teacher("yolo26s.yaml", names))
    overrides = {**settings, "model": "yolo26n.yaml", "teacher": teacher, "cwd": 1.0, "epochs": 3}
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


@pytest.mark.slow
def test_resume_restores_projectors_and_optimizer_where_the_run_is_now(settings, make_teacher, names, tmp_path):
    teacher = str(make_teacher("yolo26s.yaml", names))
    overrides = {**settings, "model": "yolo26n.yaml", "teacher": teacher, "cwd": 1.0, "epochs": 3}
    trainer = DistillationTrainer(overrides=overrides)

    def stop(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    trainer.add_callback("on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    at_save = torch.load(trainer.save_dir / "weights" / "projectors.pt", weights_only=True)[0]

    moved = trainer.save_dir.rename(tmp_path / "moved")
    (moved / "weights").rename(tmp_path / "on-a-larger-disk")
    (moved / "weights").symlink_to(tmp_path / "on-a-larger-disk")
    last = moved / "weights" / "last.pt"
    resumed = DistillationTrainer(overrides={"model": str(last), "resume": str(last)})
    seen = {}

    def look(trainer):
        seen.update({k: v.clone() for k, v in trainer.projectors.state_dict().items()})
        group = trainer.optimizer.param_groups[-1]
        seen["moments"] = len([p for p in group["params"] if trainer.optimizer.state.get(p)])

    resumed.add_callback("on_train_start", look)
    resumed.train()
    assert seen.pop("moments") == len(at_save)
    assert all(torch.equal(seen[key], at_save[key]) for key in at_save)
    assert [int(row["epoch"]) for row in read_csv(moved)] == [1, 2, 3]
    assert not trainer.save_dir.exists()


def test_resume_of_a_plain_run_is_refused(settings, make_teacher, names):
    plain = DetectionTrainer(overrides={**settings, "model": "yolo26n.yaml", "epochs": 2})
    plain.add_callback("on_model_save", lambda t: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        plain.train()
    with pytest.raises(RequestError, match="not a checkpoint of a distillation run"):
        DistillationTrainer(overrides={"model": str(plain.last), "resume": str(plain.last)})


@pytest.mark.slow
def test_recovery_from_nan_restores_projectors_and_keeps_the_teacher_out_of_the_ema(settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(
        overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, "cwd": 1.0, "epochs": 3}
    )
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


def test_a_teacher_with_a_coarser_level_needs_its_own_multiple(settings, make_teacher, names):
    teacher = str(make_teacher("yolo26n-p6.yaml", names))
    for change in ({"imgsz": 96}, {"multi_scale": 0.5}, {"rect": True}):
        trainer = DistillationTrainer(
            overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, **change, "exist_ok": True}
        )
        with pytest.raises(RequestError, match="the teacher takes multiples of 64 only; use imgsz="):
            trainer.train()


@pytest.mark.slow
@pytest.mark.parametrize("layers", [17, 23])  # of the three neck maps some, and all
def test_frozen_layers_have_no_share(layers, train, make_teacher, names, caplog):
    teacher = make_teacher("yolo26s.yaml", names)
    trainer = train(model="yolo26n.yaml", teacher=teacher, freeze=layers, init="student", ramp_epochs=0, pkd=1.0)
    assert ("pkd teach nothing: freeze= covers all layers" in caplog.text) == (layers == 23)
    share = float(read_csv(trainer.save_dir)[0]["share/logit"])
    assert share > 0 if layers == 17 else math.isnan(share)
    if layers == 23:
        with pytest.raises(RequestError, match="balance=auto: freeze= covers the student's neck"):
            train(model="yolo26n.yaml", teacher=teacher, freeze=layers, balance="auto", name="balanced")


@pytest.mark.slow
def test_classes_that_are_left_out_are_not_taught(train, make_teacher, names):
    teacher = make_teacher("yolo26s.yaml", names)
    trainer = train(model="yolo26n.yaml", teacher=teacher, classes=[1], recipe="taught")
    assert trainer._terms.classes.student == [1]


def test_under_musgd_the_projectors_learn_at_the_base_rate(settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    trainer = DistillationTrainer(
        overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, "cwd": 1.0, "optimizer": "MuSGD"}
    )
    rates = []
    trainer.add_callback(
        "on_train_start",
        lambda t: rates.extend(g["initial_lr"] for g in t.optimizer.param_groups if g["param_group"] == "projector"),
    )
    trainer.train()
    assert rates == [trainer.args.lr0]


def test_a_recipe_from_python_holds_no_settings_of_the_host(settings, make_teacher, names, tmp_path):
    (tmp_path / "mine.yaml").write_text("logit: 2.0\noptimizer: SGD\n")
    own = {"teacher": str(make_teacher("yolo26s.yaml", names)), "recipe": str(tmp_path / "mine.yaml")}
    with pytest.raises(RequestError, match=r"holds settings of Ultralytics \(optimizer\), which are given to train"):
        DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", **own})
    (tmp_path / "mine.yaml").write_text("logit: 2.0\n")
    assert DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", **own}).recipe.logit == 2.0
