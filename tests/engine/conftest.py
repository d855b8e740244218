"""What the tests of runs share: trainers of the tiny pair, its data, and what was said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def data(tiny_data) -> dict[str, Any]:
    """Return the checked description of the tiny data set."""
    from yolo_distill.data.dataset import check_data

    return check_data(tiny_data, ("train", "val"))


@pytest.fixture
def make_trainer(settings, tiny_pair) -> Callable[..., Any]:
    """Return a function that makes a trainer of the tiny pair, with settings on top of the short ones."""

    def make(**changes: Any) -> Any:
        from yolo_distill.engine.trainer import DistillationTrainer

        return DistillationTrainer(overrides={**settings, **tiny_pair, **changes})

    return make


@pytest.fixture
def large(make_teacher, names) -> str:
    """Return the checkpoint of an untrained yolo26s of the tiny data's classes."""
    return str(make_teacher("yolo26s.yaml", names))


@pytest.fixture(scope="session")
def two_stages(tmp_path_factory) -> str:
    """Return an untrained two-stage teacher of the tiny data's classes that is sure of something everywhere."""
    import torch

    from yolo_distill.teachers.torchvision_detector import make_detector
    from yolo_distill.teachers.torchvision_weights import save_detector

    torch.manual_seed(0)
    name, file = "fasterrcnn_mobilenet_v3_large_fpn", tmp_path_factory.mktemp("torchvision") / "two.pth"
    model = make_detector(name, 2, 64)
    torch.nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias, 0.0)
    save_detector(file, model, name, {0: "disc", 1: "square"}, 64)
    return f"torchvision:{name}:{file}"


@pytest.fixture
def said(caplog) -> Callable[..., str]:
    """Return a function that returns what has been logged so far from a level on."""
    caplog.set_level(logging.INFO)

    def text(level: int = logging.INFO) -> str:
        return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= level)

    return text
