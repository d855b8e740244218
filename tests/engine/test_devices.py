"""Several devices: what a worker rebuilds."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.patches import torch_load

from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.teacher_stop import TEACHER_MAP_KEY
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.recipe import ARGS_KEY


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


def test_a_worker_rebuilds_trainer_and_recipe_from_what_the_host_hands_it(make_trainer, worker_of):
    parent = make_trainer(logit=0.3, cwd=0.5)
    worker = worker_of(parent)
    assert type(worker) is DistillationTrainer
    assert worker.recipe == parent.recipe
    assert worker.save_dir == parent.save_dir
    assert (worker.save_dir / "recipe.yaml").exists()
    measured = [trainer.teacher_stop.teacher_map for trainer in (worker, parent)]
    assert measured[0] == measured[1] is not None  # each worker has its part of val only
    assert not {ARGS_KEY, TEACHER_MAP_KEY} & vars(parent.args).keys()
    worker.train()
    columns = read_columns(worker.csv)
    assert all(columns[f"share/{term}"][-1] > 0 for term in ("logit", "localization", "cwd"))


@pytest.mark.slow
def test_a_student_that_was_built_before_the_workers_still_started_inside_its_teacher(make_trainer, worker_of):
    parent = make_trainer(recipe="taught")
    parent.model = parent.get_model(cfg=parent.model)  # as YOLO(...).train() does
    chosen = parent._chosen
    worker = worker_of(parent)
    worker.train()
    assert worker.recipe.cwd == 2.5
    assert {stride: picked.tolist() for stride, picked in worker._chosen.items()} == {
        stride: picked.tolist() for stride, picked in chosen.items()
    }
    assert "start_in_teacher" not in vars(torch_load(worker.last, map_location="cpu")["model"])
