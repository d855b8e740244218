"""`yolo-distill export`: turn a checkpoint into an ONNX file that is proved to answer like it."""

from __future__ import annotations

from typing import Any

from yolo_distill.errors import missing_extra
from yolo_distill.settings import Setting

SUMMARY = "turn a .pt detector into a small .onnx file, proved on pictures against torch"

SETTINGS = {
    "model": Setting(str, "checkpoint (.pt)", required=True),
    "imgsz": Setting(str, "input size in pixels, or height,width; not set: what the model was trained at"),
    "data": Setting(str, "data set (.yaml) whose val pictures it is proved on; not set: bundled pictures"),
    "out": Setting(str, ".onnx file or folder; not set: beside the checkpoint"),
    "nms": Setting(
        str,
        "none: one-to-many branch, NMS in the runtime; false: one-to-one branch without NMS (v10, 26)",
        "none",
        choices=("none", "false"),
    ),
    "target": Setting(str, "who it is for: a file in export/", "cpu"),
    "opset": Setting(int, "ONNX operator set; not set: the target's", low=11, high=23),
    "trust": Setting(bool, "load a checkpoint that brings code of its own along", False),
}

NOTES = (
    "The file is run by the runtime beside torch on the same input. Only when boxes, scores and detections agree does "
    "it appear under its name, with the proof beside it as JSON; an older file stays until then."
)


def run(settings: dict[str, Any]) -> None:
    """Export, prove, and say what was proved.

    Raises:
        DistillError: what `export` refuses, or a file that does not answer like the checkpoint.
    """
    try:
        from yolo_distill.engine.export import export
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "ultralytics", "export") from error
    nms = None if settings.pop("nms") == "none" else False
    print(export(settings.pop("model"), nms=nms, **settings).summary())
