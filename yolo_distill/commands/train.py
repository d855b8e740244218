"""`yolo-distill train`: a large YOLO teaches a small one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yolo_distill.errors import missing_extra
from yolo_distill.settings import Setting, given, host_settings
from yolo_distill.terms_table import term_settings
from yolo_distill.vocabulary import CHANNEL_CHOICES, PER_TERM, TERMS

SUMMARY = "teach a small YOLO what a large one knows"


def _for_each_term(name: str) -> dict[str, Setting]:
    """Return a setting that has one value a term, for all of them and for each alone."""
    setting = replace(PER_TERM[name], default=None)
    return {name: setting, **{f"{name}.{term}": replace(setting, help=f"the same of {term} alone") for term in TERMS}}


# Without a default here: what is not given comes from the recipe, and only there do defaults stand.
SETTINGS = {
    "teacher": Setting(
        str,
        "weights (yolo26s.pt, your best.pt), an architecture (yolo26s.yaml), then trained first, torchvision:NAME, an "
        "ONNX file; several with commas",
    ),
    "student": Setting(str, "weights or architecture of the student; yolo26n.pt when not given"),
    "recipe": Setting(str, "a file of cfg/ by name, or a path to one", default="default"),
    "init": Setting(
        str, "where the student starts; try: by a short training each", choices=("auto", "teacher", "student", "try")
    ),
    "init_channels": Setting(str, "how the start chooses the teacher's channels", choices=CHANNEL_CHOICES),
    "init_fit": Setting(bool, "fit the start's convolutions to the teacher's by least squares"),
    "init_warmup": Setting(
        float,
        "share of the epochs in which the learning rate of a fitted start grows; 0: as usual",
        low=0,
        high=0.99,
    ),
    "teach": Setting(str, "whether the terms teach; auto: where they pay", choices=("auto", "true", "false")),
    **{key: replace(setting, default=None) for key, setting in term_settings().items()},
    "balance": Setting(str, "auto: gains follow the terms' gradients; fixed: they stay", choices=("fixed", "auto")),
    **_for_each_term("share"),
    **_for_each_term("schedule"),
    "ramp_epochs": Setting(float, "epochs over which the terms grow to their gains", low=0),
    "teacher_precision": Setting(
        str, "how the teacher is computed; auto takes the fastest", choices=("auto", "fp32", "bf16", "fp16", "int8")
    ),
    "teacher_weights": Setting(str, "file of a torchvision teacher's weights"),
    "teacher_names": Setting(str, "class names of such weights that bring none: a YAML file, or names with commas"),
    "teacher_outputs": Setting(str, "YAML file that says how to read an ONNX teacher's outputs"),
    "teacher_imgsz": Setting(int, "side of the pictures as the teacher sees them; a multiple of imgsz", low=32),
    "class_map": Setting(str, "YAML file, the teacher's class name: the data's class name"),
    "unlabeled": Setting(str, "pictures without labels: folder, glob, video, what yolo-distill label wrote"),
    "unlabeled_ratio": Setting(float, "unlabelled pictures for each labelled one in a batch", low=0.01),
    "unlabeled_every": Setting(int, "every n-th frame of a video is taken", low=1),
    "unlabeled_conf": Setting(
        float, "score above which the teacher's boxes on them are labels as well; not set: none", low=0.01, high=0.99
    ),
    "kd_until": Setting(
        float,
        "share of the epochs after which the teacher rests; null: once it is passed",
        low=0,
        high=1,
        nullable=True,
    ),
    "match": Setting(str, "whether every class of the data needs a teacher", choices=("all", "some")),
    "teacher_epochs": Setting(
        int, "epochs of a teacher that has yet to be trained; the student's when not given", low=1
    ),
    "assistant": Setting(str, "distilled first, then the student's teacher; several: largest first, with commas"),
    "force": Setting(bool, "go on although the teacher is worse than the student's own start"),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code"),
}

NOTES = """\
Every training setting of Ultralytics passes through: data=, epochs=, imgsz=, batch=, device=, seed=, optimizer=, ...
resume=path/to/last.pt goes on with an interrupted run.

  yolo-distill train teacher=my_yolo26s.pt student=yolo26n.yaml data=data.yaml imgsz=320 epochs=100"""

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
    train(given(settings), host_settings(extra), student=student, recipe=recipe)
