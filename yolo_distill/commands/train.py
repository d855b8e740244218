"""`yolo-distill train`: a large YOLO teaches a small one."""

from __future__ import annotations

from typing import Any

from yolo_distill.errors import importing_for
from yolo_distill.recipe_table import on_command_line
from yolo_distill.settings import Setting, given, host_settings

SUMMARY = "teach a small YOLO what a large one knows"

_OF_RECIPE = on_command_line()

SETTINGS = {
    "teacher": _OF_RECIPE["teacher"],
    "student": Setting(str, "weights or architecture of the student; yolo26n.pt when not given"),
    "recipe": Setting(str, "a file of cfg/ by name, or a path to one", default="default"),
    **_OF_RECIPE,
}

NOTES = """\
Every training setting of Ultralytics passes through: data=, epochs=, imgsz=, batch=, device=, seed=, optimizer=, ...
resume=path/to/last.pt goes on with an interrupted run.

  yolo-distill train teacher=my_yolo26s.pt student=yolo26n.yaml data=data.yaml imgsz=320 epochs=100"""

PASSES_HOST_SETTINGS = True


def run(settings: dict[str, Any], extra: dict[str, str]) -> None:
    """Run a distillation; `extra` is settings of Ultralytics, as text."""
    with importing_for("training"):
        from yolo_distill.engine.run import train

    student, recipe = settings.pop("student"), settings.pop("recipe")
    train(given(settings), host_settings(extra), student=student, recipe=recipe)
