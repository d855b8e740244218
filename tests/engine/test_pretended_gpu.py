"""Whole runs with `device=0` on a GPU that is pretended: nothing is left on the wrong device. See `pretend_gpu`."""

from __future__ import annotations

import json

import cv2
import pytest
import torch
from live_detector import draw, live_detector, save
from pretend_gpu import pretend_gpu
from tiny_yolo import write_architecture
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.run import train
from yolo_distill.teachers import precision
from yolo_distill.teachers.precision import choose_forward
from yolo_distill.teachers.yolo import YoloTeacher


@pytest.fixture
def gpu(monkeypatch):
    # Of meta tensors the pretence knows nothing, on which a checkpoint is tried before it is taken.
    monkeypatch.setattr("yolo_distill.models.checkpoint.require_runs", lambda *_: None)
    with pretend_gpu():
        yield torch.device("cuda:0")


def test_the_pretence_is_as_strict_as_torch(gpu):
    model = nn.Conv2d(3, 4, 1).to(gpu)
    there, here = torch.rand(2, 3, 4, 4, device=gpu), torch.rand(2, 3, 4, 4)
    model(there).sum().backward()
    assert model.weight.grad.device == here.to(there).device == gpu
    assert (there.sum() * torch.tensor(2.0)).device == gpu  # one number may come from anywhere
    assert there.cpu().device == here.device
    index = torch.zeros(1, dtype=torch.long, device=gpu)
    for mixed in (lambda: model(here), lambda: there + here, lambda: torch.cat([there, here]), lambda: here[index]):
        with pytest.raises(RuntimeError, match="device"):
            mixed()
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "terms"),
    [
        (
            {"teach": True, "balance": "auto", "init_fit": True},
            ["logit", "local", "cwd"],
        ),
        ({"logit": 0, "hinton": 1, "pkd": 1, "mgd": 1, "mimic": 1, "mimic_projector": "mlp"}, ["hint", "mgd", "mimic"]),
        ({"teacher": "two stages", "pkd": 1, "mimic": 1}, ["logit", "local", "pkd", "mimic"]),
        ({"teacher_imgsz": 128}, ["logit", "local"]),
        ({"unlabeled": "pictures"}, ["logit", "local", "cwd"]),
    ],
    ids=["default", "other terms", "two stages", "larger", "unlabelled"],
)
def test_a_run_keeps_everything_on_its_device(gpu, own, terms, settings, large, two_stages, tmp_path):
    own = {"teacher": large, "ramp_epochs": 0.0, **own}
    if own["teacher"] == "two stages":
        own["teacher"] = two_stages
    if "unlabeled" in own:
        (tmp_path / "pictures").mkdir()
        for number, picture in enumerate(draw(4, 64, 64)):
            cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), picture)
    slow = {"optimizer": "AdamW", "lr0": 1e-4}  # so that nothing runs away, whatever the balance does at first
    folder = train(own, {**settings, **slow, "device": 0, "amp": False, "workers": 0}, student="yolo26n.yaml")
    columns = read_columns(folder / "results.csv")
    losses = {term: columns[f"train/{term}_loss"][-1] for term in terms}
    assert min(losses.values()) > 0, losses
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["student"]["device"] == summary["teacher"]["device"] == "cuda:0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "terms"),
    [("obb", ["logit", "local"]), ("segment", ["logit", "local", "mask"]), ("pose", ["logit", "local", "point"])],
)
def test_a_student_of_another_task_is_taught_there(gpu, task, terms, of_task, settings, tmp_path):
    """Where a GPU would have to be waited for, terms are of all anchors at once, in two dimensions."""
    small = write_architecture(tmp_path / "small.yaml", task=task)
    wide = write_architecture(tmp_path / "large.yaml", width=2, task=task)
    large = save(live_detector(str(wide), ("disc", "square"), task=task), tmp_path / "large.pt", 64)
    own = {"teacher": str(large), "teach": True, "box_floor": 0, "ramp_epochs": 0.0, "init": "student"}
    short = {"data": str(of_task(task)), "device": 0, "amp": False, "workers": 0, "val": False}
    columns = read_columns(train(own, {**settings, **short}, student=str(small)) / "results.csv")
    found = {name: values for name, values in columns.items() if name.startswith("train/")}
    assert all(any(term in name and values[-1] > 0 for name, values in found.items()) for term in terms), found


@pytest.mark.slow
def test_a_run_in_half_precision(gpu, settings, large):
    own = {"teacher": large, "teacher_precision": "fp16", "ramp_epochs": 0.0, "teach": True}
    folder = train(own, {**settings, "device": 0, "workers": 0, "val": False}, student="yolo26n.yaml")
    columns = read_columns(folder / "results.csv")
    # Scaled losses in fp16 leave gradients that can be compared.
    assert all(0 < columns[f"share/{term}"][-1] < 100 for term in ("logit", "localization", "cwd"))
    pace = json.loads((folder / "summary.json").read_text())["pace"]
    assert pace["student"] == "fp16"
    assert pace["teacher"].endswith("fp16")


@pytest.mark.parametrize(("device", "timed"), [("cpu", 4), ("cuda:0", 16)])
def test_a_gpu_is_timed_on_as_many_pictures_as_keep_it_busy(gpu, device, timed, monkeypatch):
    asked = []

    def note(teacher, ways, pictures):
        asked.append((len(pictures), pictures.device))
        return dict.fromkeys(ways, 1.0)

    monkeypatch.setattr(precision, "_seconds", note)
    teacher = YoloTeacher(DetectionModel("yolo26n.yaml", nc=2, verbose=False).eval(), torch.device(device))
    choose_forward(teacher, "fp32", torch.rand(5, 3, 64, 64), answers=10.0, batch=32)
    assert asked == [(timed, torch.device(device))]
