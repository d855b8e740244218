"""How many epochs plain gets for the time of distillation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made import record

from yolo_distill.comparison.arms import Arm
from yolo_distill.comparison.budget import decide, decided, equal_time_arm, seconds_an_epoch, time_ratio

GPU = {"device": "NVIDIA", "cpu": "a CPU", "threads": 1}


def test_processor_time_counts_on_a_cpu_and_the_clock_elsewhere() -> None:
    spent = {"epoch_cpu_seconds": [1.0, 2.0, 3.0], "epoch_seconds": [10.0, 20.0, 30.0]}
    assert seconds_an_epoch(record("plain", 0, 0.4, **spent)) == pytest.approx(2.0)
    assert seconds_an_epoch(record("plain", 0, 0.4, **spent, machine=GPU)) == pytest.approx(20.0)
    # One in which the machine slept counts as a usual one.
    slept = record("plain", 0, 0.4, epoch_seconds=[10.0, 11.0, 12.0, 4000.0], machine=GPU)
    assert seconds_an_epoch(slept) == pytest.approx((10 + 11 + 12 + 11.5) / 4)


def test_the_decision_is_written_down(tmp_path: Path) -> None:
    plain = record("plain", 3, 0.4, epochs=100, epoch_cpu_seconds=[2.0] * 4)
    ours = record("distilled", 3, 0.5, epochs=100, epoch_cpu_seconds=[2.5] * 4)
    assert decided(tmp_path) is None
    decision = decide(tmp_path, ours, plain)
    assert decision is not None
    assert (decision["ratio"], decision["epochs"], decision["seed"]) == (1.25, 125, 3)
    assert decided(tmp_path) == decision == json.loads((tmp_path / "equal-time.json").read_text())
    arm = equal_time_arm(Arm("plain", "plain", {"epochs": 100, "lr0": 0.1}), decision)
    assert (arm.label, arm.kind, arm.host) == ("plain (equal time)", "plain", {"epochs": 125, "lr0": 0.1})


@pytest.mark.parametrize(
    ("ours", "epochs"),
    [
        ({"epoch_cpu_seconds": [1.0]}, 10),  # never fewer
        ({"setup_cpu_seconds": 21.0}, 25),  # what ours does before its first epoch counts
        # Not what is trained once for all seeds.
        ({"setup_cpu_seconds": 900.0, "recipe": {"assistant": "yolo26s.yaml", "init": "auto"}}, 15),
        ({"setup_cpu_seconds": 900.0, "recipe": {"assistant": None, "init": "try"}}, 15),
        ({"epochs": 20, "epochs_done": 16}, 24),  # stopped early
    ],
)
def test_the_epochs_of_plain(ours: dict[str, Any], epochs: int, tmp_path: Path) -> None:
    plain = record("plain", 0, 0.4, epochs=10, epoch_cpu_seconds=[2.0])
    found = record("distilled", 0, 0.5, **{"epochs": 10, "epoch_cpu_seconds": [3.0], **ours})
    assert (decide(tmp_path, found, plain) or {})["epochs"] == epochs


@pytest.mark.parametrize(
    "plain", [{"machine": {**GPU, "device": "cpu", "threads": 8}}, {"epoch_seconds": []}, {"epoch_cpu_seconds": [0.0]}]
)
def test_no_ratio_between_machines_or_without_epochs(plain: dict[str, Any]) -> None:
    assert time_ratio(record("distilled", 0, 0.5), record("plain", 0, 0.4, **plain)) is None
