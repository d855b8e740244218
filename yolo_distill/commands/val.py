"""`yolo-distill val`: measure a checkpoint or an ONNX file on a labelled split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yolo_distill.errors import importing_for
from yolo_distill.files import new_file, write_bytes
from yolo_distill.given_files import check_model_files
from yolo_distill.results import ValResult
from yolo_distill.settings import Setting
from yolo_distill.spelling import DATA, WEIGHTS

SUMMARY = "measure a .pt or .onnx detector on a labelled split, both by the same evaluator"

SETTINGS = {
    "model": Setting(str, "checkpoint (.pt) or exported file (.onnx)", required=True, alone=r"\.(pt|onnx)$"),
    "data": Setting(str, "data set file, such as data=path/to/data.yaml", required=True, alone=DATA),
    "split": Setting(str, "split to measure on", "val"),
    "imgsz": Setting(int, "picture side in pixels; not set: what the model was trained or made for", low=1, high=8192),
    "batch": Setting(int, "pictures at a time (a .onnx file has its own)", 16, low=1, high=4096),
    "device": Setting(str, "cpu, 0, ...; not set: a GPU if there is one"),
    "conf": Setting(float, "ignore detections below; not set: 0.001", low=0, high=1),
    "iou": Setting(float, "overlap above which NMS drops a box", 0.7, low=0, high=1),
    "nms": Setting(
        str,
        "none, true: one-to-many branch and NMS; false: one-to-one branch (v10, 26)",
        "none",
        choices=("none", "true", "false"),
    ),
    "rect": Setting(bool, "rectangular batches, as while training (.pt only)", False),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code", False),
    "plots": Setting(str, "folder for curves and sample pictures"),
    "out": Setting(str, "JSON file for the figures"),
}

NOTES = "A checkpoint and the file exported from it get the same letterboxed squares, so their figures can be compared."


ALSO = WEIGHTS
LOOK_FIRST = check_model_files


def call(settings: dict[str, Any]) -> ValResult:
    """Measure, and write JSON if asked to."""
    out = new_file("out", settings, read=("model", "data"))
    del settings["out"]
    nms = {"none": None, "true": True, "false": False}[settings.pop("nms")]
    with importing_for("val"):
        from yolo_distill.evaluation.evaluate import evaluate, in_points
    figures = in_points(evaluate(settings.pop("model"), settings.pop("data"), nms=nms, **settings))
    if out:
        write_bytes(out, f"{json.dumps(figures, indent=2)}\n".encode())
    shown = ("map", "map50", "precision", "recall", "pictures", "boxes", "ms", "classes")
    return ValResult(**{key: figures[key] for key in shown}, figures=figures)


def run(settings: dict[str, Any]) -> None:
    """Measure, and print a table."""
    out = settings["out"]
    figures = call(settings).figures
    from yolo_distill.evaluation.evaluate import class_table

    print(class_table(figures))
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in figures["ms"].items())
    print(f"\n{sum(figures['ms'].values()):.1f} ms a picture on {figures['device']} ({parts})")
    if out:
        print(f"figures: {Path(out).expanduser()}")
