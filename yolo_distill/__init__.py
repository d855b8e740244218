"""Teach a nano YOLO what a large YOLO knows, and run it without torch.

Importing the package loads neither torch nor onnxruntime; the public names load what they need on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolo_distill.version import __version__

if TYPE_CHECKING:
    from yolo_distill.engine.trainer import DistillationTrainer
    from yolo_distill.errors import DistillError
    from yolo_distill.runtime.detector import Detections, Detector

__all__ = ["Detections", "Detector", "DistillError", "DistillationTrainer", "__version__"]

_PUBLIC = {
    "DistillationTrainer": "yolo_distill.engine.trainer",
    "DistillError": "yolo_distill.errors",
    "Detections": "yolo_distill.runtime.detector",
    "Detector": "yolo_distill.runtime.detector",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
