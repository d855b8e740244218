"""`yolo-distill train`: a large YOLO teaches a small one."""

from __future__ import annotations

from typing import Any

from yolo_distill.errors import missing_extra
from yolo_distill.settings import Setting, given, host_settings
from yolo_distill.vocabulary import CHANNEL_CHOICES, FEATURE_TERMS, SCHEDULES, TERMS

SUMMARY = "teach a small YOLO what a large one knows"

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
    "logit": Setting(float, "gain of the class term; 0: off; null: as the start asks for", low=0, nullable=True),
    "hinton": Setting(float, "gain of the class term by softmax KL", low=0),
    "localization": Setting(float, "gain of the box term; likewise", low=0, nullable=True),
    **{
        name: Setting(float, f"gain of the feature term {name.upper()}", low=0, nullable=name == "cwd")
        for name in FEATURE_TERMS
    },
    "logit_gamma": Setting(float, "how strongly the class term looks at disagreement", low=0),
    "hinton_tau": Setting(float, "temperature of hinton", low=0),
    "box_floor": Setting(float, "teacher score above which an anchor's box is taught", low=0, high=1),
    "cwd_tau": Setting(float, "temperature of cwd", low=0),
    "mgd_mask": Setting(float, "share of the places that mgd hides", low=0, high=1),
    "mimic_weight": Setting(str, "what weighs the places of mimic", choices=("score", "uniform")),
    "mimic_projector": Setting(str, "through what mimic sees the student's maps", choices=("linear", "mlp")),
    "balance": Setting(str, "auto: gains follow the terms' gradients; fixed: they stay", choices=("fixed", "auto")),
    "share": Setting(float, "wanted gradient of each term, by the task's", low=0, high=1),
    **{f"share.{name}": Setting(float, f"the same of {name} alone", low=0, high=1) for name in TERMS},
    "schedule": Setting(str, "how all terms' strength goes over the run", choices=SCHEDULES),
    **{f"schedule.{name}": Setting(str, f"the same of {name} alone", choices=SCHEDULES) for name in TERMS},
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
