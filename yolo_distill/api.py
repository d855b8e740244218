"""The commands as functions: the same settings, checks and results."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from yolo_distill.results import (
    BenchmarkResult,
    CompareResult,
    ExportResult,
    LabelResult,
    ShrinkResult,
    TrainResult,
    TuneResult,
    ValResult,
)
from yolo_distill.spelling import arguments, read_values


def train(teacher: Any = None, student: Any = None, data: Any = None, **settings: Any) -> TrainResult:
    """Teach a small YOLO what a large one knows.

    Settings are those of `yolo-distill train --help`, and all of Ultralytics: epochs, imgsz, batch, device, ...

    >>> run = train("my_yolo26s.pt", "yolo26n.yaml", "data.yaml", imgsz=320, epochs=100)
    >>> run.best, run.student.map, run.teacher.map
    """
    return _call("train", settings, teacher=teacher, student=student, data=data)


def compare(teacher: Any = None, student: Any = None, data: Any = None, **settings: Any) -> CompareResult:
    """Train arms over paired seeds, and say which is ahead, and by how much; the same call goes on after a stop.

    Settings are those of `yolo-distill compare --help`, and all of Ultralytics.

    >>> compare("my_yolo26s.pt", "yolo26n.yaml", "data.yaml", imgsz=320, epochs=100, seeds=[0, 1, 2]).verdict
    """
    return _call("compare", settings, teacher=teacher, student=student, data=data)


def tune(teacher: Any = None, student: Any = None, data: Any = None, **settings: Any) -> TuneResult:
    """Look for a better recipe on val, and say over paired seeds how far it is ahead; the same call goes on.

    Settings are those of `yolo-distill tune --help`, and all of Ultralytics.

    >>> tune("my_yolo26s.pt", "yolo26n.yaml", "data.yaml", imgsz=320, epochs=50, trials=30).recipe
    """
    return _call("tune", settings, teacher=teacher, student=student, data=data)


def shrink(teacher: Any = None, data: Any = None, **settings: Any) -> ShrinkResult:
    """Make a smaller checkpoint out of a trained one, in seconds and without training.

    Settings are those of `yolo-distill shrink --help`.

    >>> shrink("my_yolo26s.pt", "data.yaml", width=0.19, out="small.pt").map
    """
    return _call("shrink", settings, teacher=teacher, data=data)


def export(model: Any = None, **settings: Any) -> ExportResult:
    """Turn a checkpoint into an ONNX file that is proved to answer like it, or into another format.

    Settings are those of `yolo-distill export --help`.

    >>> export("best.pt", data="data.yaml", target="phone", precision="int8").file
    """
    return _call("export", settings, model=model)


def val(model: Any = None, data: Any = None, **settings: Any) -> ValResult:
    """Measure a checkpoint or an ONNX file on a labelled split, both by the same evaluator.

    Settings are those of `yolo-distill val --help`.

    >>> val("best.onnx", "data.yaml", split="test").map
    """
    return _call("val", settings, model=model, data=data)


def label(teacher: Any = None, source: Any = None, out: Any = None, **settings: Any) -> LabelResult:
    """Label pictures and videos by a teacher; the same call goes on after a stop.

    Settings are those of `yolo-distill label --help`.

    >>> label("best.pt", ["pictures/", "film.mp4"], "labelled", data="data.yaml").boxes
    """
    return _call("label", settings, teacher=teacher, source=source, out=out)


def benchmark(model: Any = None, **settings: Any) -> BenchmarkResult:
    """Time models side by side: latency, FPS, memory, size and mAP.

    Settings are those of `yolo-distill benchmark --help`.

    >>> benchmark(["best.onnx", "best.pt"], data="data.yaml", threads=[1, 2]).p50_ms
    """
    return _call("benchmark", settings, model=model)


def _call(name: str, settings: dict[str, Any], **named: Any) -> Any:
    """Carry out a command, which prints no result."""
    command = import_module(f"yolo_distill.commands.{name}")
    given = {key: value for key, value in named.items() if value is not None}
    return command.call(*arguments(command, read_values({**given, **settings}, command.SETTINGS)))
