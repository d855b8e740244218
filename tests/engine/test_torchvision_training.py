"""torchvision's detectors learn the student's data: from the host's pictures, to the end, also in two goes."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from ultralytics.cfg import get_cfg

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.engine import torchvision_training
from yolo_distill.engine.teacher_quality import few_pictures
from yolo_distill.engine.torchvision_training import (
    RATE,
    TorchvisionTraining,
    keep_still,
    rate_at,
    start_from_imagenet,
    targets_of,
    train_torchvision,
)
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.teachers.torchvision_detector import make_detector
from yolo_distill.teachers.torchvision_weights import load_detector_file

SMALL = "ssdlite320_mobilenet_v3_large"
TWO_STAGES = "fasterrcnn_mobilenet_v3_large_fpn"
DENSE = "retinanet_resnet50_fpn"


@pytest.fixture(autouse=True)
def _no_weights_from_elsewhere(tmp_path, monkeypatch):
    """Look for ImageNet's weights in an empty folder, whatever this machine has."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def few(settings):
    """Settings of a run of a few steps, without a name of its own."""
    return {**{key: value for key, value in settings.items() if key != "name"}, "workers": 0, "batch": 4}


def rows_of(best):
    with (best.parent.parent / "results.csv").open() as file:
        return list(csv.DictReader(file))


def kill_after(epochs, monkeypatch):
    """Kill the run in the middle of the epoch after these."""
    train = TorchvisionTraining._train_epoch

    def killed(self):
        losses = train(self)
        if self.epoch == epochs:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(TorchvisionTraining, "_train_epoch", killed)


@pytest.mark.slow
def test_it_learns_real_pictures(shared_data, few):
    with few_pictures(check_data(shared_data / "bccd" / "data.yaml", ("train", "val")), 4) as file:
        best = train_torchvision(SMALL, check_data(file, ("train", "val")), few, 6)
    losses = [float(row["classification"]) + float(row["bbox_regression"]) for row in rows_of(best)]
    assert losses[-1] < 0.9 * losses[0]
    model, name, names = load_detector_file(best, None, None, 64)
    assert (name, names) == (SMALL, {0: "RBC", 1: "WBC", 2: "Platelets"})
    assert not model.training


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_happened(data, few, tmp_path, monkeypatch):
    few["close_mosaic"] = 1  # so that the two goes have other transforms
    whole = train_torchvision(TWO_STAGES, data, {**few, "project": str(tmp_path / "whole")}, 2)
    with monkeypatch.context() as patched:
        kill_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            train_torchvision(TWO_STAGES, data, {**few, "project": str(tmp_path / "killed")}, 2)
    (run,) = (tmp_path / "killed").iterdir()
    assert len(rows_of(run / "weights" / "best.pth")) == 1
    assert not (run / "teacher.json").exists()
    killed = train_torchvision(TWO_STAGES, data, {**few, "project": str(tmp_path / "killed")}, 2)
    assert killed == run / "weights" / "best.pth"
    assert rows_of(killed) == rows_of(whole)
    assert [row["epoch"] for row in rows_of(killed)] == ["1", "2"]
    ends = [torch.load(best.with_name("last.pth"), weights_only=True) for best in (whole, killed)]
    assert all(torch.equal(value, ends[1]["state"][key]) for key, value in ends[0]["state"].items())
    assert json.loads((run / "teacher.json").read_text()) == {"architecture": TWO_STAGES, "weights": "weights/best.pth"}
    assert sorted(file.name for file in (run / "weights").iterdir()) == ["best.pth", "last.pth"]
    # What only an unfinished run needs is gone.
    assert set(ends[1]) == {"torchvision", "names", "imgsz", "state"}


@pytest.mark.slow
def test_a_finished_teacher_is_found_again_and_a_damaged_beginning_is_not_trusted(data, few, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        kill_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            train_torchvision(SMALL, data, few, 1)
    (run,) = Path(few["project"]).glob("teacher-*")
    (run / "weights" / "last.pth").write_bytes(b"half of it")
    caplog.set_level("WARNING")
    best = train_torchvision(SMALL, data, few, 1)
    assert "is cut off or damaged; copy it again; training from the start" in caplog.text
    before = best.stat().st_mtime_ns
    assert train_torchvision(SMALL, data, few, 1) == best
    assert best.stat().st_mtime_ns == before
    kill_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):  # a teacher of more epochs is another one
        train_torchvision(SMALL, data, few, 2)


@pytest.mark.parametrize(
    "name", [SMALL, TWO_STAGES, *(pytest.param(name, marks=pytest.mark.slow) for name in (DENSE, "fcos_resnet50_fpn"))]
)
def test_pictures_without_boxes_are_no_accident(name):
    torch.manual_seed(0)
    model = make_detector(name, 2, 64).train()
    batch = {
        "img": torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        "bboxes": torch.zeros(0, 4),
        "cls": torch.zeros(0, 1),
        "batch_idx": torch.zeros(0),
    }
    losses = model(list(torch.rand(2, 3, 64, 64)), targets_of(batch, torch.device("cpu")))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_targets_are_boxes_in_pixels_with_classes_after_the_background():
    batch = {
        "img": torch.zeros(3, 3, 100, 200, dtype=torch.uint8),
        "bboxes": torch.tensor(
            [[0.5, 0.5, 0.2, 0.4], [0.02, 0.5, 0.06, 1.2], [0.5, 0.5, 0.2, 0.005], [0.1, 0.1, 0.1, 0.1]]
        ),
        "cls": torch.tensor([[0.0], [2.0], [1.0], [1.0]]),
        "batch_idx": torch.tensor([0.0, 0.0, 0.0, 2.0]),
    }
    first, second, third = targets_of(batch, torch.device("cpu"))
    # The second hangs over three edges, and of the third less than a pixel is left.
    torch.testing.assert_close(first["boxes"], torch.tensor([[80.0, 30.0, 120.0, 70.0], [0.0, 0.0, 10.0, 100.0]]))
    assert first["labels"].tolist() == [1, 3]
    assert second["boxes"].shape == (0, 4)
    assert third["labels"].tolist() == [2]


def test_it_is_measured_on_the_classes_that_it_is_trained_on(monkeypatch):
    seen = {}
    monkeypatch.setattr(torchvision_training, "TorchvisionTeacher", lambda *_: None)
    monkeypatch.setattr(torchvision_training, "evaluate_teacher", lambda *_, **how: seen.update(how) or {"map": 0.5})
    args = get_cfg(overrides={"classes": [1], "imgsz": 64, "device": "cpu"})
    given = {"model": None, "names": {}, "device": args.device, "data": {"yaml_file": "data.yaml"}}
    assert TorchvisionTraining._measure(SimpleNamespace(args=args, **given)) == 0.5
    assert seen == {"single_cls": False, "classes": [1], "imgsz": 64, "batch": 16, "device": "cpu"}


def test_the_rate_warms_up_and_falls():
    rates = [rate_at(moment, 100) / RATE for moment in (0, 2.5, 5, 52.5, 100)]
    assert rates == pytest.approx([0, 0.5, 1, 0.505, 0.01])


@pytest.mark.parametrize("name", [SMALL, TWO_STAGES])
def test_a_backbone_from_imagenet_is_taken_and_its_statistics_stay(name, tmp_path):
    torch.manual_seed(0)
    state = mobilenet_v3_large(weights=None).state_dict()
    for key, value in state.items():
        if "running_mean" in key:
            value += 0.5
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1
    file = tmp_path / "torch" / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    model = make_detector(name, 2, 64)
    still = start_from_imagenet(model, name)
    first = next(layer for layer in model.backbone.modules() if isinstance(layer, nn.Conv2d))
    assert torch.equal(first.weight, state["features.0.0.weight"])

    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    keep_still(model, still)
    model(
        list(torch.rand(2, 3, 64, 64)), [{"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}] * 2
    )
    moved = {key for key, value in model.state_dict().items() if "running_mean" in key and not value.equal(before[key])}
    kept = {key for key in before if "running_mean" in key} - moved
    assert {key.removesuffix(".running_mean") for key in kept} <= set(still)
    assert all(before[key].mean() == pytest.approx(0.5) for key in kept)
    # The head's own, and those of blocks that are half as wide as ImageNet's, learn.
    assert bool(moved) == (name == SMALL)
    learning = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(key.startswith(("head", "roi_heads")) for key in learning)
    if name == TWO_STAGES:  # torchvision does not train the first blocks of this one
        assert "backbone.body.0.0.weight" not in learning


def test_without_weights_from_imagenet_all_layers_learn(caplog):
    caplog.set_level("INFO")
    model = make_detector(DENSE, 2, 64)
    assert start_from_imagenet(model, DENSE) == []
    assert "from scratch: weights for ImageNet are not on this machine" in caplog.text
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) > 50  # and not frozen ones


def test_requests_that_can_not_be_met(data, few):
    with pytest.raises(RequestError, match=r"teacher=torchvision:fasterrcnn: no such detector; did you mean"):
        train_torchvision("fasterrcnn", data, few, 1)
    with pytest.raises(RequestError, match="takes RGB pictures, these have 1 channels"):
        train_torchvision(SMALL, {**data, "channels": 1}, few, 1)
    with pytest.raises(RequestError, match=r"batch=1: .* on 2 or more at a time"):
        train_torchvision(SMALL, data, {**few, "batch": 1}, 1)
    assert not list(Path(few["project"]).glob("teacher-*"))


def test_losses_that_are_no_numbers_end_the_run(data, few, tmp_path):
    run = TorchvisionTraining(SMALL, data, {**few, "epochs": 1}, tmp_path / "run")
    with torch.no_grad():
        next(run.model.head.parameters()).fill_(math.nan)
    with pytest.raises(DistillError, match=r"its losses are no numbers in epoch 1 \(bbox_regression"):
        run.train()


def test_a_last_batch_of_one_picture_is_left_out(data, few, tmp_path):
    run = TorchvisionTraining(SMALL, data, {**few, "epochs": 1, "batch": 7}, tmp_path / "run")
    assert len(pictures_of(data, "train")) == 8
    assert [len(batch["img"]) for batch in run.loader] == [7]
