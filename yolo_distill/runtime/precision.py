"""The precision an exported file computes in."""

from __future__ import annotations

from yolo_distill.runtime.detector import Detector


def precision_of(detector: Detector) -> str:
    """Return "fp32", "fp16" or "int8": what the file notes, else what the type of its input says."""
    noted = detector.metadata.get("precision")
    if noted:
        return str(noted)
    return "fp16" if detector.session.get_inputs()[0].type == "tensor(float16)" else "fp32"
