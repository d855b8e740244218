"""Graphs to operate on, traced by the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture
from traced_graphs import SIDE
from ultralytics.data.augment import LetterBox

from yolo_distill.exporting.onnx_file import annotate, trace
from yolo_distill.models.checkpoint import load_detector


@pytest.fixture(
    scope="session", params=["tiny", *(pytest.param(f"yolo{v}n", marks=pytest.mark.slow) for v in ("26", "v8"))]
)
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector without NMS: a tiny one, one without DFL (26) and one with it (8)."""
    folder = tmp_path_factory.mktemp("traced")
    plan = f"{request.param}.yaml"
    if request.param == "tiny":
        plan = str(write_architecture(folder / plan, width=4))
    model = load_detector(save(live_detector(plan), folder / "model.pt", SIDE))
    file = trace(model, folder, "model", (SIDE, SIDE), None, 17, True)
    annotate(file, {})
    return file


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Letterboxed BGR pictures (SIDE, SIDE, 3)."""
    return [LetterBox((SIDE, SIDE), scaleup=True)(image=one) for one in draw(6, 80, 120)]
