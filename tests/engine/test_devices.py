"""Several devices: what a worker rebuilds, and how projector gradients meet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.patches import torch_load

from yolo_distill.distillation.projectors import average_gradients
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.run_recipe import ARGS_KEY
from yolo_distill.engine.teacher_cost import TeacherPace
from yolo_distill.engine.teacher_stop import TEACHER_MAP_KEY
from yolo_distill.engine.trainer import DistillationTrainer


def _rank(rank: int, store: str, results) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    module = nn.ModuleDict({"8": nn.Conv2d(1, 1, 1, bias=False), "16": nn.Conv2d(1, 1, 1, bias=False)})
    module["8"].weight.grad = torch.full((1, 1, 1, 1), float(rank + 1))  # "16" had no gradient in this step
    average_gradients(module)
    results.put((rank, module["8"].weight.grad.item(), module["16"].weight.grad is None))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_projector_gradients_are_averaged_over_processes(two_processes):
    got = two_processes(_rank)
    assert got == [(0, 1.5, True), (1, 1.5, True)]


@pytest.fixture
def worker_of(monkeypatch):
    """Return a function that starts a trainer with two devices, and returns one of the trainers its workers build."""
    pytest.importorskip("cloudpickle")
    rebuilt = []

    def launch(command, check):
        state = torch_load(Path(command[-1]).with_suffix(".pt"), map_location="cpu")
        # As the file that the host writes for its workers does.
        trainer = state["trainer"](cfg={**DEFAULT_CFG_DICT, "save_dir": ""}, overrides=state["args"])
        trainer.model = state["model"]
        rebuilt.append(trainer)

    def start(parent):
        monkeypatch.setattr("ultralytics.engine.trainer.subprocess.run", launch)
        parent.ddp, parent.world_size = True, 2
        parent.train()
        return rebuilt.pop()

    return start


def test_a_worker_rebuilds_trainer_and_recipe_from_what_the_host_hands_it(settings, tiny_pair, worker_of):
    parent = DistillationTrainer(overrides={**settings, **tiny_pair, "logit": 0.3, "cwd": 0.5})
    worker = worker_of(parent)
    assert type(worker) is DistillationTrainer
    assert worker.recipe == parent.recipe
    assert worker.save_dir == parent.save_dir
    assert (worker.save_dir / "recipe.yaml").exists()
    assert worker.teacher_map == parent.teacher_map is not None  # each worker has its part of val only
    assert not {ARGS_KEY, TEACHER_MAP_KEY} & vars(parent.args).keys()
    worker.train()
    columns = read_columns(worker.csv)
    assert all(columns[f"share/{term}"][-1] > 0 for term in ("logit", "localization", "cwd"))


def test_a_student_that_was_built_before_the_workers_still_started_inside_its_teacher(settings, tiny_pair, worker_of):
    parent = DistillationTrainer(overrides={**settings, **tiny_pair, "recipe": "taught"})
    parent.model = parent.get_model(cfg=tiny_pair["model"])  # as YOLO(...).train() does
    chosen = parent._chosen
    worker = worker_of(parent)
    worker.train()
    assert worker.recipe.cwd == 2.5
    assert {stride: picked.tolist() for stride, picked in worker._chosen.items()} == {
        stride: picked.tolist() for stride, picked in chosen.items()
    }
    assert "start_in_teacher" not in vars(torch_load(worker.last, map_location="cpu")["model"])


class _Host:
    def _model_train(self):
        """Do nothing, where the host's does what is not looked at here."""


class _Run(TeacherPace, _Host):
    def __init__(self, epochs):
        self.args, self.world_size, self.epochs = SimpleNamespace(time=1.0, epochs=epochs), 2, epochs
        self.train_loader = SimpleNamespace(dataset=None)
        self.criterion = None


def _timed_rank(rank: int, store: str, results) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    run = _Run(epochs=10 + rank)
    run._model_train()
    results.put((rank, run.epochs, run.args.epochs))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_how_many_epochs_the_time_is_enough_for_is_said_by_the_first_process(two_processes):
    assert two_processes(_timed_rank) == [(0, 10, 10), (1, 10, 10)]
