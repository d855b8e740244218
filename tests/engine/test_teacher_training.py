"""A teacher given as an architecture is trained first, whichever kind it is, and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from live_detector import draw
from tiny_rtdetr import write_architecture
from ultralytics.nn.tasks import torch_safe_load

from yolo_distill.engine import teacher_setup, teacher_training
from yolo_distill.engine.teacher_training import RtdetrTrainer, train_teacher
from yolo_distill.models.checkpoint import load_ultralytics
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.loading import Teachers
from yolo_distill.teachers.rtdetr import RtdetrTeacher


@pytest.fixture
def architecture(tmp_path: Path) -> str:
    return str(write_architecture(tmp_path / "tiny-rtdetr.yaml"))


@pytest.mark.slow
def test_an_rtdetr_is_trained_resumed_and_found_again(architecture, data, settings, monkeypatch, tmp_path):
    # On a CPU the host refuses bf16, which a student can be trained in here.
    settings = {**settings, "amp": "bf16", "project": str(tmp_path / "runs")}
    whole = RtdetrTrainer.save_model

    def once(self: RtdetrTrainer) -> bool:
        whole(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RtdetrTrainer, "save_model", once)
        with pytest.raises(KeyboardInterrupt):
            train_teacher(architecture, data, settings, 2)
    settings["project"] = str((tmp_path / "runs").rename(tmp_path / "moved"))
    last = next(Path(settings["project"]).rglob("last.pt"))
    assert torch_safe_load(last, safe_only=True)[0]["epoch"] == 0
    moved, begin = [], RtdetrTrainer.__init__

    def watched(self: RtdetrTrainer, overrides: dict[str, Any]) -> None:
        moved.append(overrides)
        begin(self, overrides=overrides)

    with monkeypatch.context() as patch:
        patch.setattr(RtdetrTrainer, "__init__", watched)
        best = train_teacher(architecture, data, {**settings, "workers": 3}, 2)
    here = {"data": settings["data"], "device": "cpu", "workers": 3, "save_dir": str(last.parent.parent)}
    assert moved == [{"model": str(last), "resume": str(last), **here}]
    assert not (tmp_path / "runs").exists()
    assert best == last.with_name("best.pt")
    results = (best.parent.parent / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in results] == ["epoch", "1", "2"]
    assert "giou_loss" in results[0]
    with monkeypatch.context() as patch:
        patch.setattr(RtdetrTrainer, "train", lambda _: pytest.fail("was trained once more"))
        assert train_teacher(architecture, data, settings, 2) == best
    model = load_ultralytics(best)
    assert model.names == data["names"]
    assert model.args["amp"] is False
    assert RtdetrTeacher(model)(torch.rand(2, 3, 64, 64)).scores.shape[-1] == 2


def test_its_own_epochs_are_not_ended_by_the_students_clock(data, settings, tiny_student, monkeypatch):
    seen = []

    class Noted:
        def __init__(self, overrides: dict[str, Any]) -> None:
            seen.append((overrides["epochs"], overrides.get("time")))

        def train(self) -> None:
            pass

    monkeypatch.setattr(teacher_training, "TeacherTrainer", Noted)
    for epochs in (3, None):
        train_teacher(tiny_student, data, {**settings, "epochs": 2, "time": 0.01}, epochs)
    assert seen == [(3, None), (2, 0.01)]


def test_a_teacher_begins_with_its_weights(data, settings, tiny_student, make_teacher, tmp_path):
    weights = str(make_teacher(tiny_student, {0: "dog"}))
    still = {"lr0": 0.0, "warmup_bias_lr": 0.0, "optimizer": "SGD", "project": str(tmp_path / "runs")}
    best = train_teacher(weights, data, {**settings, **still}, 1)
    given, trained = (load_ultralytics(file).state_dict()["model.0.conv.weight"] for file in (weights, best))
    torch.testing.assert_close(trained, given, atol=1e-3, rtol=1e-3)


def test_a_teacher_is_trained_on_pictures_as_it_will_see_them(data, monkeypatch):
    seen = []
    monkeypatch.setattr(teacher_setup, "train_teacher", lambda *given, **how: seen.append(given[2:]) or "best.pt")
    recipe = make_recipe({"teacher": "yolo26s.yaml", "teacher_epochs": 2, "teacher_imgsz": 128})
    done = teacher_setup.with_trained_teachers(recipe, Teachers.of(recipe), data, {"imgsz": 64})
    assert seen == [({"imgsz": 128}, 2)]
    assert done.teacher_epochs is None


@pytest.mark.parametrize("mode", ["train", "val"])
def test_pictures_keep_their_proportions(mode, architecture, data, settings, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "wide.png"), draw(1, 48, 96)[0])
    (tmp_path / "labels" / "wide.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    still = dict.fromkeys(("mosaic", "scale", "translate"), 0)
    trainer = RtdetrTrainer(overrides={**settings, **still, "model": architecture, "rect": True})
    trainer.data = data
    dataset = trainer.build_dataset(str(tmp_path / "images"), mode=mode, batch=1)
    item = dataset[0]
    # A square, whatever rect= says: the host's validator takes the boxes for shares of one.
    assert item["img"].shape == (3, 64, 64)
    assert item["bboxes"][0, 2:].tolist() == pytest.approx([0.25, 0.25], abs=1e-3)
