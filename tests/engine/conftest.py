"""What the tests of runs share: trainers of the tiny pair, its data, and what was said."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml


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


@pytest.fixture(scope="session")
def of_task(tiny_data, tmp_path_factory):
    """Return a function that returns the tiny data with labels of a task, made of its boxes."""
    root = tmp_path_factory.mktemp("tasks")

    def row(words: list[str], task: str) -> str:
        x, y, w, h = map(float, words[1:])
        corners = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
        flat = [value for corner in corners for value in np.clip(corner, 0, 1)]
        if task == "pose":
            flat = [x, y, w, h, *(value for k in range(4) for value in (*flat[2 * k : 2 * k + 2], 2))]
        return " ".join([words[0], *(f"{value:.6f}" for value in flat)])

    def make(task: str) -> Path:
        folder = root / task
        if not folder.exists():
            shutil.copytree(tiny_data.parent, folder)
            for label in (folder / "labels").rglob("*.txt"):
                rows = [row(line.split(), task) for line in label.read_text().splitlines()]
                label.write_text("\n".join(rows) + "\n")
            plan = {**yaml.safe_load(tiny_data.read_text()), "path": str(folder)}
            if task == "pose":
                plan |= {"kpt_shape": [4, 3], "flip_idx": [1, 0, 3, 2]}
            (folder / "data.yaml").write_text(yaml.safe_dump(plan))
        return folder / "data.yaml"

    return make


@pytest.fixture
def said(caplog) -> Callable[..., str]:
    """Return a function that returns what has been logged so far from a level on."""
    caplog.set_level(logging.INFO)

    def text(level: int = logging.INFO) -> str:
        return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= level)

    return text
