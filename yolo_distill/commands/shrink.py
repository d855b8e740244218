"""`yolo-distill shrink`: a smaller checkpoint out of a trained one, in seconds and without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError, importing_for
from yolo_distill.files import check_writable
from yolo_distill.given_files import check_model_files
from yolo_distill.recipe_table import SETTINGS as OF_RECIPE
from yolo_distill.recipe_table import STUDENT_SIZES
from yolo_distill.results import ShrinkResult
from yolo_distill.settings import Setting
from yolo_distill.spelling import DATA, Also

SUMMARY = "make a smaller .pt out of a trained one in seconds, without training, and say what it finds"

SETTINGS = {
    "teacher": Setting(str, "trained checkpoint (best.pt)", required=True, alone=r"\.pt$"),
    "data": Setting(str, "data set file (.yaml): fitted on its train, measured on its val", required=True, alone=DATA),
    **{key.removeprefix("student_"): setting for key, setting in STUDENT_SIZES.items()},
    "student": Setting(str, "architecture of the result, such as yolo26p.yaml; not set: the teacher's own"),
    "out": Setting(str, "checkpoint to write (.pt); not set: beside the teacher, named after the size"),
    "imgsz": Setting(
        int, "side of the pictures in pixels; not set: what the teacher was trained at", low=32, high=8192
    ),
    "channels": OF_RECIPE["init_channels"],
    "device": Setting(str, "cpu, 0, ...; not set: a GPU if there is one"),
    "trust": OF_RECIPE["trust"],
}

NOTES = """\
It is the start of `train`, as a file: any Ultralytics opens it, trains on from it and exports it. Without training it
finds less than its teacher, the less the smaller it is.

  yolo-distill shrink teacher=best.pt width=0.19 data=data.yaml out=small.pt
  yolo train model=small.pt data=data.yaml"""

ALSO: Also = {"weights": {"*": "teacher=*"}, "model": {"*": "teacher=*"}}
LOOK_FIRST = check_model_files


def call(settings: dict[str, Any]) -> ShrinkResult:
    """Shrink, and measure."""
    teacher, data = settings.pop("teacher"), settings.pop("data")
    words = {"width": "w", "depth": "d", "act": ""}  # as an architecture of that size is called
    sizes = [f"{word}{settings[key]}" for key, word in words.items() if settings[key] is not None]
    if settings["student"]:
        sizes.insert(0, Path(settings["student"]).stem)
    beside = Path(teacher).with_name("-".join([Path(teacher).stem, *sizes]) + ".pt")
    out = Path(settings.pop("out") or beside).expanduser()
    if out.suffix != ".pt":
        raise RequestError(f"out={out}: a checkpoint ends in .pt")
    check_writable(out, f"out={out}", {"teacher": teacher})
    with importing_for("shrink"):
        from yolo_distill.evaluation.evaluate import cost, evaluate, in_points
        from yolo_distill.initialization.shrink import shrink, write_checkpoint
    model = shrink(teacher, data, **settings)
    found = {**in_points(evaluate(model, data, device=settings["device"])), "model": str(out)}
    write_checkpoint(model, out)
    parameters = cost(model, found["imgsz"])["parameters"]
    return ShrinkResult(out, found["map"], found["map50"], parameters, out.stat().st_size / 1e6, found)


def run(settings: dict[str, Any]) -> None:
    """Shrink, and say what it finds."""
    made = call(settings)
    print(
        f"{made.file}: mAP50-95 {made.map:.1f}, mAP50 {made.map50:.1f} on val at "
        f"{made.figures['imgsz']} px; {made.parameters:,} parameters, {made.megabytes:.1f} MB"
    )
