"""How a run ends: teacher and student measured side by side, as a table and as summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as host_version
from ultralytics.utils import LOGGER

from yolo_distill.engine.teacher_cost import read_cost
from yolo_distill.engine.teacher_setup import measure_teachers
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import cost, evaluate, in_points, side_by_side
from yolo_distill.files import typed, write_bytes
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import rounded_imgsz
from yolo_distill.models.tasks import TASKS
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.loading import Teachers
from yolo_distill.version import __version__

SUMMARY = "summary.json"


def summarise(folder: Path, recipe: Recipe, teachers: Teachers, data: str, args: Mapping[str, Any]) -> None:
    """Measure teacher and student on the validation split of a data set file, and write the table as summary.json.

    Of `args`, the run's settings of the host, `imgsz`, `device`, `single_cls` and `classes` count here.
    """
    LOGGER.info("Measuring teacher and student on val, in squares as exported files see it (epochs were in rectangles)")
    best = folder / "weights" / "best.pt"
    student = load_detector(best, trust=recipe.trust, role="student")
    imgsz = rounded_imgsz(student, int(args["imgsz"]))  # of several devices only the workers round it
    where: dict[str, Any] = {"imgsz": imgsz, **measured_by(args)}
    rows: dict[str, dict[str, Any]] = {"teacher": {"weights": recipe.teacher}}
    try:
        measured = measure_teachers(recipe, teachers, data, task=student.task, **where)
        rows["teacher"] |= {key: value for key, value in measured.items() if key != "ms"}  # beside other work, in parts
    except RequestError as error:
        # The training is done; a teacher with other classes, say, is no reason to fail now.
        LOGGER.warning(f"the teacher is not measured: {error}")
    if teachers.alone and (model := teachers.start) is not None:
        rows["teacher"] |= cost(model, imgsz)
    rows["student"] = {"weights": str(best)}
    try:
        rows["student"] |= evaluate(student, data, **where)
    except RequestError as error:  # likewise; val without a box, say
        LOGGER.warning(f"the student is not measured: {error}")
    rows["student"] |= cost(student, imgsz)
    rows = {who: in_points(row) for who, row in rows.items()}
    summary = {
        "split": "val",
        "imgsz": imgsz,
        "pace": read_cost(folder),
        "versions": {"yolo-distill": __version__, "ultralytics": host_version, "torch": torch.__version__},
        **rows,
    }
    write_bytes(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    two = getattr(student.model[-1], "one2one_cv2", None) is not None
    branch = ", by the one-to-many branch and NMS" if two else ""
    about = "" if student.task == "detect" else f", by their {TASKS[student.task].finds}"
    if rows["teacher"].get("task", student.task) != student.task:  # it finds other things; what both find are boxes
        rows["student"], about = {**rows["student"], **rows["student"].get("of_boxes", {})}, ", by their boxes"
    LOGGER.info(f"\nTeacher and student on val at {imgsz} px{about}{branch}, 0 to 100:\n{side_by_side(rows)}\n")
    words = typed("yolo-distill", "export", f"model={best}", f"data={data}")
    LOGGER.info(f"Student: {best}\nNext:    {words}")


def measured_by(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's settings its measurements go by."""
    single_cls = bool(args.get("single_cls"))
    return {"device": args.get("device"), "single_cls": single_cls, "classes": args.get("classes")}
