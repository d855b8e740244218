"""`yolo-distill export`: turn a checkpoint into an ONNX file that is proved to answer like it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError, importing_for
from yolo_distill.given_files import check_model_files
from yolo_distill.host_keys import check_calibration, check_format, host_formats
from yolo_distill.results import ExportResult
from yolo_distill.settings import Setting
from yolo_distill.spelling import DATA, NO_DATA, WEIGHTS, Also

SUMMARY = "turn a .pt detector into a small .onnx file for where it goes, proved on pictures; other formats as well"

SETTINGS = {
    "model": Setting(str, "checkpoint (.pt)", required=True, alone=NO_DATA),
    "format": Setting(str, "onnx, or any of Ultralytics' own exporter: openvino, ncnn, tflite, coreml, ...", "onnx"),
    "target": Setting(str, "where it goes: a file in export/ (cpu, phone, browser)", "cpu"),
    "precision": Setting(
        str, "fp32, fp16 or int8; not set: the target's first choice", choices=("fp32", "fp16", "int8")
    ),
    "data": Setting(
        str,
        "data set (.yaml): proved and measured on its val, int8 calibrated on its train; not set: bundled pictures",
        alone=DATA,
    ),
    "imgsz": Setting(str, "input size in pixels, or height,width; not set: what the model was trained at"),
    "out": Setting(str, ".onnx file or folder; not set: beside the checkpoint"),
    "nms": Setting(
        str,
        "none: one-to-many branch, NMS in the runtime; false: one-to-one branch without NMS (v10, 26)",
        "none",
        choices=("none", "false"),
    ),
    "input": Setting(
        str,
        "floats: (1, 3, H, W), 0 to 1; pictures: (1, H, W, 3) uint8, blue-green-red; not set: the target's",
        choices=("floats", "pictures"),
    ),
    "max_drop": Setting(float, "points of mAP50-95 that fp16 or int8 may lose", 0.3, low=0, high=100),
    "calibrate": Setting(int, "most pictures to calibrate int8 on", 256, low=1, high=4096),
    "tune": Setting(bool, "train an int8 file that would lose more, taught by the fp32 file; minutes", False),
    "opset": Setting(int, "ONNX operator set; not set: the target's", low=13, high=23),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code", False),
}

NOTES = (
    "The file is run by the runtime beside torch on the same input, and fp16 and int8 are measured beside fp32. Only "
    "what agrees appears under its name, with the proof (JSON) and a model card (Markdown) beside it; an older file "
    "stays until then. Another format= is made by Ultralytics' own exporter and proved where its runtime is installed; "
    "target=, input=, opset=, calibrate= and tune= are ONNX's."
)

ALSO: Also = {
    **WEIGHTS,
    "half": {"true": "precision=fp16", "false": ""},
    "int8": {"true": "precision=int8", "false": ""},
    "quantize": {"8": "precision=int8", "16": "precision=fp16", "32": "precision=fp32"},
}
LOOK_FIRST = check_model_files

_OF_ONNX = ("target", "input", "opset", "calibrate", "tune")


def call(settings: dict[str, Any]) -> ExportResult:
    """Export and prove."""
    format = settings.pop("format").lower()
    for key in () if format == "onnx" else _OF_ONNX:
        if (value := settings.pop(key)) != SETTINGS[key].default:
            raise RequestError(f"{key}={value}: is of format=onnx only; format={format} goes without, leave {key}= out")
    model, nms = settings.pop("model"), None if settings.pop("nms") == "none" else False
    if format == "onnx":  # before the seconds that torch takes
        with importing_for("export", torch=False):
            from yolo_distill.exporting.targets import load_target
        made = load_target(settings["target"])
        precision = settings["precision"] or made.precisions[0]
        if settings["tune"] and precision != "int8":
            raise RequestError(f"tune=true: trains int8 files, and precision={precision}; leave tune= out")
        made.check(precision, settings["input"] or made.input, nms, settings["data"])
    elif formats := host_formats():
        check_calibration(settings["precision"], formats[check_format(format, formats)], settings["data"])
    with importing_for("export"):
        from yolo_distill.exporting.export import export
        from yolo_distill.exporting.ultralytics_formats import export_by_host
    from yolo_distill.runtime.progress import Progress

    progress = Progress()
    stage = progress.report if sys.stderr.isatty() else progress.say  # each takes seconds
    try:
        report: Any
        if format == "onnx":
            report = export(model, nms=nms, say=progress.say, progress=stage, **settings)
        else:
            report = export_by_host(model, format, nms=nms, progress=stage, **settings)
    finally:
        progress.clear()
    if format == "onnx":
        proof, accuracy, ms = report.proof, report.accuracy, report.ms
    else:
        proof, measured = report.note, report.proof
        accuracy, ms = (measured.accuracy, measured.ms) if measured else ({}, {})
    return ExportResult(
        file=Path(report.path),
        proof=Path(proof),
        format=format,
        precision=report.precision,
        imgsz=report.imgsz,
        megabytes=report.file_bytes / 1e6,
        map={name: figures["map"] for name, figures in accuracy.items() if "map" in figures},
        ms=ms,
        report=report,
    )


def run(settings: dict[str, Any]) -> None:
    """Export, prove, and say what was proved."""
    print(call(settings).report.summary())
