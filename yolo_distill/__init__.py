"""Teach a nano YOLO what a large YOLO knows, and run it without torch.

    from yolo_distill import train, compare, export, Detector

    run = train(teacher="my_yolo26s.pt", student="yolo26n.yaml", data="my_data.yaml", imgsz=320, epochs=100)
    file = export(run.best, data="my_data.yaml").file
    found = Detector(file)("picture.jpg")

Functions, each a command of `yolo-distill` with the same settings, checks and results:

    train       teach a small YOLO                       -> TrainResult
    compare     say over paired seeds whether it helped  -> CompareResult
    tune        look for a better recipe                 -> TuneResult
    shrink      make a smaller .pt without training      -> ShrinkResult
    export      write an ONNX file, and prove it         -> ExportResult
    val         measure a .pt or .onnx                   -> ValResult
    label       label pictures and videos by a teacher   -> LabelResult
    benchmark   time models side by side                 -> BenchmarkResult

`yolo-distill COMMAND --help` lists the settings. Here they are keyword arguments: a list where the command has commas,
and a path or a YOLO of Ultralytics where it has a file. They need `pip install ".[train]"`.

Classes, each with a page of its own, such as help(yolo_distill.Detector):

    Detector             runs an exported file on pictures, with numpy, onnxruntime and OpenCV alone
    Detections           what it found
    DistillationTrainer  for YOLO("yolo26n.yaml").train(trainer=DistillationTrainer, teacher="my_yolo26s.pt", ...)
    RequestError         what was asked for has to change; the message is one line that says how
    DistillError         the work failed; every RequestError is one
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolo_distill.version import __version__

if TYPE_CHECKING:
    from yolo_distill.api import benchmark, compare, export, label, shrink, train, tune, val
    from yolo_distill.engine.trainer import DistillationTrainer
    from yolo_distill.errors import DistillError, RequestError
    from yolo_distill.runtime.detector import Detections, Detector

# Before OpenCV is imported, which reads it once: pictures of more pixels are not decoded. The largest that Pillow, by
# which Ultralytics checks a data set, opens.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "178956970")
# Before onnxruntime is imported, which else keeps a lasting number of this machine and reports its use to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Detections", "Detector", "DistillError", "DistillationTrainer", "RequestError", "__version__", "benchmark",
    "compare", "export", "label", "shrink", "train", "tune", "val",
]  # fmt: skip

_FUNCTIONS = ("benchmark", "compare", "export", "label", "shrink", "train", "tune", "val")
_PUBLIC = {
    **dict.fromkeys(_FUNCTIONS, "yolo_distill.api"),
    "DistillationTrainer": "yolo_distill.engine.trainer",
    "DistillError": "yolo_distill.errors",
    "RequestError": "yolo_distill.errors",
    "Detections": "yolo_distill.runtime.detector",
    "Detector": "yolo_distill.runtime.detector",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """Return what `help(yolo_distill)` is to open; the page itself names the classes, one of which needs torch."""
    return [*_FUNCTIONS, "__version__"]
