"""`yolo-distill train`: a large YOLO teaches a small one."""

from __future__ import annotations

from typing import Any

from yolo_distill.errors import missing_extra
from yolo_distill.settings import Setting, host_settings

SUMMARY = "teach a small YOLO what a large one knows"

# Without a default here: what is not given comes from the recipe, and only there do defaults stand.
SETTINGS = {
    "teacher": Setting(str, "weights (yolo26s.pt, your best.pt) or an architecture (yolo26s.yaml), then trained first"),
    "student": Setting(str, "weights or architecture of the student; yolo26n.pt when not given"),
    "recipe": Setting(str, "a file of cfg/ by name, or a path to one", default="default"),
    "init": Setting(str, "where the student starts", choices=("auto", "teacher", "student")),
    "logit": Setting(float, "gain of the class term; 0 switches it off", low=0),
    "localization": Setting(float, "gain of the box term; 0 switches it off", low=0),
    "cwd": Setting(float, "gain of the feature term; 0 switches it off", low=0),
    "logit_gamma": Setting(float, "how strongly the class term looks at disagreement", low=0),
    "box_floor": Setting(float, "teacher score above which an anchor's box is taught", low=0, high=1),
    "cwd_tau": Setting(float, "temperature of the feature term", low=0),
    "ramp_epochs": Setting(float, "epochs over which the terms grow to their gains", low=0),
    "teacher_precision": Setting(
        str, "how the teacher is computed; auto takes the fastest", choices=("auto", "fp32", "bf16", "fp16", "int8")
    ),
    "kd_every": Setting(int, "the teacher is asked for every so manieth batch", low=1),
    "kd_until": Setting(float, "share of the epochs after which the teacher rests", low=0, high=1),
    "views": Setting(int, "augmented views of each picture, in turn; 0: a new one each time", low=0),
    "teacher_cache": Setting(str, "where the teacher's answers to views are kept", choices=("ram", "disk")),
    "match": Setting(str, "whether every class of the data needs a teacher", choices=("all", "some")),
    "teacher_epochs": Setting(
        int, "epochs of a teacher that has yet to be trained; the student's when not given", low=1
    ),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code"),
}

NOTES = """\
Every training setting of Ultralytics passes through: data=, epochs=, imgsz=, batch=, device=, seed=, optimizer=, ...
resume=path/to/last.pt goes on with an interrupted run.

  yolo-distill train teacher=yolo26s.pt student=yolo26n.pt data=data.yaml imgsz=320 epochs=100"""

PASSES_HOST_SETTINGS = True


def run(settings: dict[str, Any], extra: dict[str, str]) -> None:
    """Run a distillation.

    Args:
        settings: the settings above; None where not given.
        extra: settings of the host, as text.
    """
    try:
        from yolo_distill.engine.run import train
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("yolo_distill"):
            raise
        raise missing_extra(str(error.name), "training") from None

    student, recipe = settings.pop("student"), settings.pop("recipe")
    own = {key: value for key, value in settings.items() if value is not None}
    train(own, host_settings(extra), student=student, recipe=recipe)
