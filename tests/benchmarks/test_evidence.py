"""The tables that README and MEASURED.md have, by runs whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evidence import ablation, keep, pooled, reach, read, table

Runs = list[dict[str, Any]]


@pytest.fixture
def runs() -> Runs:
    """Return plain and an arm that is as good after half of the epochs, of a data set without test."""
    shared = {"one_to_one": None, "date": "2026-01-01", "epochs": 2, "cpu_seconds": 120.0}
    return [
        {**shared, "arm": arm, "seed": seed, "setup_cpu_seconds": before, "val": {"map": value}, "curve": curve}
        for seed in (0, 1)
        for arm, before, value, curve in (
            ("plain", 6.0, 0.4, {"metrics/mAP50-95(B)": [0.9, 0.9], "metrics/mAP50-95(M)": [0.3, 0.4]}),
            ("ours", 30.0, 0.5 + seed / 10, {"metrics/mAP50-95(B)": [0.8, 0.9], "metrics/mAP50-95(M)": [0.4, 0.5]}),
        )
    ]


def test_tables_of_a_set_without_a_test_split(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(f"{json.dumps(run)}\n" for run in runs))
    assert "| ours | 2 | 55.0 (55.0) | 50.0, 60.0 | +15.0 [-48.5, +78.5] | 2 of 2 |" in table(runs)
    assert "each seed, val |" in table(runs)
    assert "| ours | 2 | 55.0 | +15.0 [-48.5, +78.5] |  |  |  |  |" in ablation(runs, "plain")
    assert "| test, one-to-many |  | 0 of 0 |  |  |" in pooled([f"{file}:ours:plain"])


def test_what_comes_before_the_first_epoch_is_counted(runs: Runs) -> None:
    # A minute an epoch. Masks count, not the boxes around them.
    assert reach(runs).splitlines()[2:] == ["| plain | 2, 2 | 2.1, 2.1 |", "| ours | 1, 1 | 1.5, 1.5 |"]


def test_the_columns_of_a_task_are_kept(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "out" / "plain-s0").mkdir(parents=True)
    curve = {"epoch": [1, 2], **runs[0]["curve"]}
    run = {**runs[0], "curve": curve, "epoch_seconds": [], "epoch_cpu_seconds": [], "pictures": [None, "a"]}
    (tmp_path / "out" / "plain-s0" / "run.json").write_text(json.dumps(run))
    keep(tmp_path / "out", tmp_path / "kept.jsonl")
    assert read(tmp_path / "kept.jsonl")[0]["curve"] == runs[0]["curve"]
