"""Graphs to operate on, traced by the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_detector import draw, live_detector, save
from traced_graphs import SIDE
from ultralytics.data.augment import LetterBox

from yolo_distill.exporting.onnx_file import annotate, trace
from yolo_distill.models.checkpoint import load_detector


@pytest.fixture(scope="session", params=["yolo26n.yaml", pytest.param("yolov8n.yaml", marks=pytest.mark.slow)])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector without NMS: without DFL (26) and with it (8)."""
    folder = tmp_path_factory.mktemp("traced")
    model = load_detector(save(live_detector(request.param), folder / "model.pt", SIDE))
    file = trace(model, folder, "model", (SIDE, SIDE), None, 17, True)
    annotate(file, {})
    return file


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Letterboxed BGR pictures (SIDE, SIDE, 3)."""
    return [LetterBox((SIDE, SIDE), scaleup=True)(image=one) for one in draw(6, 80, 120)]
