"""Records made up by hand, free of torch: for tests of reports, and for a worker that trains nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLASSES = ("disc", "square")


def record(arm: str, seed: int, value: float, *, kind: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return the record of a run whose mAP50-95 on test is `value`, 0..1; on val it is 0.1 more.

    Args:
        arm: label, which says the kind as well where that is not given.
        seed: of the run.
        value: mAP50-95.
        kind: of the arm.
        changes: what differs from the record of any other run.
    """
    kinds = {"teacher": "teacher", "plain": "plain", "host": "host"}
    epochs = changes.get("epochs", 2)
    made = {
        "format": 1,
        "arm": arm,
        "kind": kind or kinds.get(arm, "distilled"),
        "seed": seed,
        "settings": {"epochs": epochs},
        "recipe": None,
        "precision": "fp32",
        "pace": None,
        "epochs": epochs,
        "epochs_done": epochs,
        "look": None,
        "curve": {"epoch": [1.0, 2.0], "metrics/mAP50-95(B)": [value / 2, value]},
        "shares": {},
        "parts": 1,
        "setup_seconds": 1.0,
        "setup_cpu_seconds": 1.0,
        "train_seconds": 120.0,
        "cpu_seconds": 60.0,
        "epoch_seconds": [60.0, 60.0],
        "epoch_cpu_seconds": [30.0, 30.0],
        "initial_weights": f"w{seed}",
        "pictures": [f"s{seed}e1", f"s{seed}e2"],
        "test": figures(value),
        "val": figures(value + 0.1),
        "one_to_one": {"test": figures(value - 0.02), "val": figures(value + 0.08)},
        "weights": None,
        "versions": {"yolo_distill": "0", "source": "abc", "torch": "2"},
        "machine": {"device": "cpu", "cpu": "a CPU", "threads": 1},
        "date": "2026-01-01",
    }
    return {**made, **changes}


def figures(value: float) -> dict[str, Any]:
    """Return a measurement: mAP50 is 0.2 above mAP50-95, the first class 0.1 above the mean and the second below."""
    classes = [
        {"name": name, "pictures": 4, "boxes": 7, "map": value + sign * 0.1, "map50": value}
        for name, sign in zip(CLASSES, (1, -1), strict=True)
    ]
    return {
        "map": value,
        "map50": value + 0.2,
        "precision": 0.5,
        "recall": 0.5,
        "pictures": 8,
        "boxes": 14,
        "classes": classes,
    }


def write(folder: Path, made: dict[str, Any]) -> None:
    """Put a record where a finished run has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(made))
