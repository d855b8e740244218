"""A comparison's plan and summary without a training, and a host that stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import made
import torch
from tiny_yolo import write_architecture
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import torch_utils
from ultralytics.utils.callbacks.base import default_callbacks

from yolo_distill.comparison.arms import Arm
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.results import summarise
from yolo_distill.comparison.runs import run_of, teacher_run
from yolo_distill.engine.provenance import Source


@pytest.fixture
def plan() -> Plan:
    """Return a plan of plain, host and distilled with seeds 0, 1 and 2."""
    recipe = {"assistant": None, "init": "auto", "logit": 1.0}
    return Plan(
        teacher=Source("t.pt", "/somewhere/t.pt", "aa"),
        teacher_epochs=None,
        student=Source("yolo26n.yaml", "yolo26n.yaml", None),
        data=Source("tiny/data.yaml", "/somewhere/tiny/data.yaml", "bb"),
        splits=["val", "test"],
        names=dict(enumerate(made.CLASSES)),
        imgsz=64,
        settings={"epochs": 2},
        arms={
            "plain": Arm("plain", "plain", {"epochs": 2}),
            "host": Arm("host", "host", {"epochs": 2}),
            "distilled": Arm("distilled", "distilled", {"epochs": 2}, recipe),
        },
        seeds=[0, 1, 2],
        precision="fp32",
    )


@pytest.fixture
def summary_of(plan: Plan, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that sums up records as if their runs had just ended; those that are not given are missing."""

    def sum_up(records: Sequence[dict[str, Any]], decision: dict[str, Any] | None = None) -> dict[str, Any]:
        for one in records:
            if one["arm"] == "teacher":
                made.write(teacher_run(tmp_path).folder, one)
                continue
            arm = plan.arms.setdefault(one["arm"], Arm(one["arm"], one["kind"], {"epochs": one["epochs"]}))
            made.write(run_of(tmp_path, arm, one["seed"]).folder, one)
        runs = [run_of(tmp_path, arm, seed) for arm in plan.arms.values() for seed in plan.seeds]
        asked = {(run.arm.label, run.seed) for run in runs}
        return summarise(plan, teacher_run(tmp_path), runs, asked, decision)

    return sum_up


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights of a detector of the tiny data's classes that has learned nothing."""
    path = tmp_path_factory.mktemp("untrained") / "t.pt"
    model = DetectionModel(str(write_architecture(path.with_name("wide.yaml"), width=2)), nc=2, verbose=False)
    model.names = {0: "disc", 1: "square"}
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, path)
    return path


@pytest.fixture
def host_untouched() -> Iterator[None]:
    """Put back what a worker changes in the host for its whole process."""
    calls = {event: list(listed) for event, listed in default_callbacks.items()}
    threads, host_threads = torch.get_num_threads(), torch_utils.NUM_THREADS
    yield
    default_callbacks.clear()
    default_callbacks.update(calls)
    torch_utils.NUM_THREADS = host_threads
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def words(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the settings of a comparison of a few steps, of a teacher that is trained first."""
    folder = tmp_path_factory.mktemp("nets")
    nets = [write_architecture(folder / f"{name}.yaml", width=width) for name, width in (("wide", 2), ("narrow", 1))]
    return [
        "compare", f"teacher={nets[0]}", f"student={nets[1]}", f"data={tiny_data}", "imgsz=64", "epochs=2", "batch=4",
        "amp=false", "teacher_precision=fp32", "force=true", "arms=plain,distilled", "recipe=taught",
    ]  # fmt: skip
