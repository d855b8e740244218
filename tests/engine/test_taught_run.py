"""What a run leaves behind, read off one real run of every term; see `taught_run`."""

from __future__ import annotations

import json
import pickletools
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
import yaml
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from yolo_distill.distillation.criterion import LOSS_NAMES
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.terms_table import TABLE

TERMS = [name for name, term in TABLE.items() if term.task is None]


def test_results_hold_the_loss_and_the_share_of_each_term(taught_run):
    columns = read_columns(taught_run.folder / "results.csv")
    assert columns["epoch"] == [1, 2]
    for term in TERMS:
        assert min(columns[f"train/{LOSS_NAMES[term]}"] + columns[f"share/{term}"]) > 0, term
    assert not [key for key in columns if key.startswith("val/") and "logit" in key]


def test_checkpoints_are_plain_and_need_nothing_of_this_package(taught_run, tiny_student):
    for name in ("best", "last"):
        file = taught_run.folder / "weights" / f"{name}.pt"
        with zipfile.ZipFile(file) as archive:
            (pickled,) = (archive.read(entry) for entry in archive.namelist() if entry.endswith("/data.pkl"))
        modules = {str(arg).split(".")[0] for op, arg, _ in pickletools.genops(pickled) if op.name == "GLOBAL"}
        assert "ultralytics" in modules
        assert "yolo_distill" not in modules
        model = YOLO(file)
        assert type(model.model) is DetectionModel
        assert all(torch.isfinite(value).all() for value in model.model.state_dict().values())
        student = DetectionModel(tiny_student, nc=2, verbose=False)  # neither teacher nor projectors are in it
        assert model.model.state_dict().keys() == student.state_dict().keys()
        model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, verbose=False)


def test_the_teacher_stays_as_it_is(taught_run):
    trainer = taught_run.trainer
    teacher = trainer.criterion.teacher.forward.model
    assert all(torch.equal(value, teacher.state_dict()[key]) for key, value in taught_run.states["teacher"].items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in teacher.modules())  # folded
    mine = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not mine & {id(p) for p in teacher.parameters()}
    assert getattr(trainer.ema.ema, "criterion", None) is not trainer.criterion


def test_projectors_learn_in_the_optimizer_and_lie_beside_the_checkpoint(taught_run):
    trainer, before = taught_run.trainer, taught_run.states["projectors"]
    learned = dict(trainer.projectors.named_parameters())
    assert {name.partition("_")[0] for name in learned} >= {"pkd", "mgd", "mimic"}
    assert not [name for name, value in learned.items() if torch.equal(before[name], value)]
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert all(id(p) in in_optimizer for p in learned.values())
    kept = torch.load(taught_run.folder / "weights" / "projectors.pt", weights_only=True)
    assert set(kept) == {0, 1}
    assert all(torch.equal(kept[1][name], value) for name, value in learned.items())


def test_the_resolved_recipe_is_saved_with_the_run(taught_run):
    saved = yaml.safe_load((taught_run.folder / "recipe.yaml").read_text())
    assert saved == taught_run.trainer.recipe.model_dump()
    assert {saved[term] for term in TERMS} == {1.0}
    assert Path(saved["teacher"]) == taught_run.teacher
    assert "distill" not in yaml.safe_load((taught_run.folder / "args.yaml").read_text())


def test_the_run_ends_with_the_figures_of_both(taught_run):
    summary = json.loads((taught_run.folder / "summary.json").read_text())
    for who in ("teacher", "student"):
        assert {"map", "map50", "parameters", "gflops", "file_bytes", "ms"} <= summary[who].keys()
        assert [one["name"] for one in summary[who]["classes"]] == ["disc", "square"]
    assert Path(summary["teacher"]["weights"]) == taught_run.teacher
    assert summary["pace"]["teacher"] == "tiny-wide, fp32"
    assert "Teacher and student on val at 64 px, by the one-to-many branch and NMS, 0 to 100:" in taught_run.said
    assert f"Next:    yolo-distill export model={taught_run.folder / 'weights' / 'best.pt'} data=" in taught_run.said


def test_the_run_says_what_its_teacher_costs_and_what_each_term_does(taught_run):
    (line,) = (line for line in taught_run.said.splitlines() if "teacher: tiny-wide" in line)
    assert re.search(r"tiny-wide, fp32, \+\d+% per step", line)
    assert taught_run.said.count("gradient by the task's: logit ") == 2


def test_a_run_goes_on_where_its_files_are_now(taught_run, tmp_path):
    """With its epochs, projectors and optimizer, and nothing is written where it was."""
    moved = shutil.copytree(taught_run.interrupted, tmp_path / "moved")
    (moved / "weights").rename(tmp_path / "on-a-larger-disk")
    (moved / "weights").symlink_to(tmp_path / "on-a-larger-disk")
    saved = torch.load(moved / "weights" / "projectors.pt", weights_only=True)[0]
    last = moved / "weights" / "last.pt"
    before = {file: file.stat().st_mtime_ns for file in taught_run.folder.rglob("*")}
    resumed = DistillationTrainer(overrides={"model": str(last), "resume": str(last)})
    seen = {}

    def look(trainer):
        seen.update({key: value.clone() for key, value in trainer.projectors.state_dict().items()})
        group = trainer.optimizer.param_groups[-1]
        seen["moments"] = len([p for p in group["params"] if trainer.optimizer.state.get(p)])
        seen["begins"] = (trainer.start_epoch, trainer.criterion.steps)

    resumed.add_callback("on_train_start", look)
    resumed.train()
    assert resumed.recipe == taught_run.trainer.recipe
    assert seen.pop("begins") == (1, len(resumed.train_loader))
    assert seen.pop("moments") == len(dict(resumed.projectors.named_parameters()))
    assert all(torch.equal(seen[key], value) for key, value in saved.items())
    assert load_checkpoint(last)[1]["epoch"] == -1
    assert {file: file.stat().st_mtime_ns for file in taught_run.folder.rglob("*")} == before
    columns = read_columns(moved / "results.csv")
    assert columns["epoch"] == [1, 2]
    assert all(columns[f"share/{term}"][1] > 0 for term in TERMS)
