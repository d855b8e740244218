"""Rows without files behind them."""

from __future__ import annotations

from pathlib import Path

from yolo_distill.benchmarking.backends import Row
from yolo_distill.benchmarking.models import Model


def made_model(label: str, kind: str = "onnx", side: int = 64) -> Model:
    """Return a model that says it is an fp32 one of 1 MB."""
    shape = (1, 3, side, side)
    return Model(Path(label), label, kind, (side, side), False, "fp32", shape, "float32", 10**6, "0" * 64)


def made_row(label: str, backend: str = "ours", kind: str = "onnx", side: int = 64) -> Row:
    """Return a row of such a model."""
    return Row(made_model(label, kind, side), backend, optional=False)
