"""Short real trainings: a few pictures, 64 px, one or two epochs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from live_detector import live_detector

from yolo_distill.engine.trainer import DistillationTrainer


@pytest.fixture(scope="session")
def make_teacher(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that saves an untrained detector as a checkpoint: `make_teacher("yolo26s.yaml", names)`."""
    folder = tmp_path_factory.mktemp("teachers")

    def make(architecture: str, names: dict[int, str]) -> Path:
        path = folder / f"{Path(architecture).stem}-{'-'.join(names.values())}.pt"
        if not path.exists():
            model = live_detector(architecture, names.values())
            torch.save({"model": model.half(), "train_args": {"imgsz": 64, "task": "detect"}}, path)
        return path

    return make


class Killed(BaseException):
    """What a run ends with that was killed behind its first checkpoint."""


@pytest.fixture
def killed_and_resumed(monkeypatch) -> Callable[..., Path]:
    """Return a function that starts a run by the command's way, kills it behind its first epoch and goes on."""

    def run(own: dict[str, Any], host: dict[str, Any]) -> Path:
        from yolo_distill.engine.run import train as start

        saved = DistillationTrainer.save_model
        with monkeypatch.context() as patch:

            def save_and_die(self) -> bool:
                saved(self)
                raise Killed

            patch.setattr(DistillationTrainer, "save_model", save_and_die)
            with pytest.raises(Killed):
                start(own, host, student="yolo26n.yaml")
        return start({}, {"resume": str(Path(host["project"]) / host["name"] / "weights" / "last.pt")})

    return run


@pytest.fixture
def settings(tiny_data, tmp_path) -> dict[str, Any]:
    """Host settings of a run of a few steps."""
    return {
        "data": str(tiny_data),
        "imgsz": 64,
        "epochs": 1,
        "batch": 4,
        "seed": 0,
        "plots": False,
        "project": str(tmp_path),
        "name": "run",
        "device": "cpu",
        "warmup_epochs": 0.0,
        "nbs": 4,  # an optimizer step every batch
    }


@pytest.fixture
def names(tiny_data) -> dict[int, str]:
    """Class names of the tiny data set."""
    import yaml

    return {int(k): v for k, v in yaml.safe_load(tiny_data.read_text())["names"].items()}


@pytest.fixture
def train(settings) -> Callable[..., DistillationTrainer]:
    """Return a function that runs a distillation with the given settings on top of the short ones."""

    def run(**overrides: Any) -> DistillationTrainer:
        trainer = DistillationTrainer(overrides={**settings, **{k: _text(v) for k, v in overrides.items()}})
        trainer.train()
        return trainer

    return run


@pytest.fixture
def two_processes(tmp_path) -> Callable[..., list[Any]]:
    """Return a function that calls `target(rank, store, results)` in two processes and returns what they put, by rank.

    `store` is the file over which they find each other.
    """

    def run(target: Callable[..., None]) -> list[Any]:
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        processes = [context.Process(target=target, args=(r, str(tmp_path / "store"), results)) for r in range(2)]
        for process in processes:
            process.start()
        found = sorted((results.get(timeout=120) for _ in processes), key=lambda result: result[0])
        for process in processes:
            process.join(timeout=60)
        return found

    return run


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
