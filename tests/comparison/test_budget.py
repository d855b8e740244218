"""How many epochs plain gets for the time of distillation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made import record

from yolo_distill.comparison.arms import Arm
from yolo_distill.comparison.budget import decide, decided, equal_time_arm, seconds_an_epoch, time_ratio

GPU = {"device": "NVIDIA", "cpu": "a CPU", "threads": 1}


def test_processor_time_counts_on_a_cpu_and_the_clock_elsewhere() -> None:
    spent = {"epoch_cpu_seconds": [1.0, 2.0, 3.0], "epoch_seconds": [10.0, 20.0, 30.0]}
    assert seconds_an_epoch(record("plain", 0, 0.4, **spent)) == pytest.approx(2.0)
    assert seconds_an_epoch(record("plain", 0, 0.4, **spent, machine=GPU)) == pytest.approx(20.0)


def test_an_epoch_in_which_the_machine_slept_counts_as_a_usual_one() -> None:
    slept = record("plain", 0, 0.4, epoch_seconds=[10.0, 11.0, 12.0, 4000.0], machine=GPU)
    assert seconds_an_epoch(slept) == pytest.approx((10 + 11 + 12 + 11.5) / 4)
    half = record("x", 0, 0.4, epoch_seconds=[20.0, 20.0, 10.0, 10.0], machine=GPU)  # kd_until=0.5
    assert seconds_an_epoch(half) == pytest.approx(15.0)


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


def test_plain_never_gets_fewer_epochs(tmp_path: Path) -> None:
    plain = record("plain", 0, 0.4, epochs=10, epoch_cpu_seconds=[2.0])
    decision = decide(tmp_path, record("distilled", 0, 0.5, epochs=10, epoch_cpu_seconds=[1.0]), plain)
    assert decision is not None
    assert (decision["ratio"], decision["epochs"]) == (0.5, 10)


def test_what_ours_does_before_its_first_epoch_counts(tmp_path: Path) -> None:
    plain = record("plain", 0, 0.4, epochs=10, epoch_cpu_seconds=[2.0], setup_cpu_seconds=3.0)
    healed = record("distilled", 0, 0.5, epochs=10, epoch_cpu_seconds=[3.0], setup_cpu_seconds=23.0)
    decision = decide(tmp_path, healed, plain)
    assert decision is not None
    assert (decision["seconds_before"], decision["epochs"]) == (20.0, 25)


@pytest.mark.parametrize("once", [{"assistant": "yolo26s.yaml"}, {"init": "try"}])
def test_what_is_trained_once_for_all_seeds_does_not(tmp_path: Path, once: dict[str, object]) -> None:
    recipe = {"assistant": None, "init": "auto", **once}
    plain = record("plain", 0, 0.4, epochs=10, epoch_cpu_seconds=[2.0])
    ours = record("distilled", 0, 0.5, epochs=10, epoch_cpu_seconds=[3.0], setup_cpu_seconds=900.0, recipe=recipe)
    assert (decide(tmp_path, ours, plain) or {})["epochs"] == 15


def test_ours_may_have_other_epochs_than_plain(tmp_path: Path) -> None:
    plain = record("plain", 0, 0.4, epochs=10, epoch_cpu_seconds=[2.0])
    longer = record("distilled", 0, 0.5, epochs=20, epoch_cpu_seconds=[3.0])
    assert (decide(tmp_path, longer, plain) or {})["epochs"] == 30
    stopped = {**longer, "epochs_done": 16}
    assert (decide(tmp_path, stopped, plain) or {})["epochs"] == 24


def test_no_ratio_between_machines() -> None:
    other = record("plain", 0, 0.4, machine={"device": "cpu", "cpu": "a CPU", "threads": 8})
    assert time_ratio(record("distilled", 0, 0.5), other) is None


def test_no_ratio_without_epochs() -> None:
    assert time_ratio(record("distilled", 0, 0.5), record("plain", 0, 0.4, epoch_seconds=[])) is None
    assert time_ratio(record("distilled", 0, 0.5), record("plain", 0, 0.4, epoch_cpu_seconds=[0.0])) is None
