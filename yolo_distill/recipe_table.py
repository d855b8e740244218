"""The settings of a recipe, a row each: the command line reads and explains by it, and a recipe is checked by it.

`cfg/default.yaml` shows all of them with their reasons, and a test holds it to this table. What belongs to one term
alone stands in the row of that term, in `terms_table.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from yolo_distill.settings import Setting
from yolo_distill.terms_table import TABLE, term_settings

#: Activations of a student, by the name of torch's class. What each costs: export/README.md, "Activations".
ACTIVATIONS = {"silu": "SiLU", "relu": "ReLU", "relu6": "ReLU6", "hardswish": "Hardswish"}
#: What makes another student of the architecture that `student=` names; it belongs to no recipe, as all arms of a
#: comparison have the same student.
STUDENT_SIZES: dict[str, Setting] = {
    "student_width": Setting(
        float, "its channels, by those of the architecture's rows: n has 0.25, s 0.5; not set: its own", above=0, high=4
    ),
    "student_depth": Setting(float, "its repeats of blocks, likewise; not set: its own", above=0, high=4),
    "student_act": Setting(str, "its activation; not set: its own, SiLU", choices=tuple(ACTIVATIONS)),
}

SETTINGS: dict[str, Setting] = {
    "teacher": Setting(
        str,
        "weights (yolo26s.pt, your best.pt), an architecture (yolo26s.yaml), then trained first, torchvision:NAME, an "
        "ONNX file; several with commas (required, but for resume=)",
        required=True,
    ),
    "init": Setting(
        str,
        "where the student starts; try: by a short training each",
        "auto",
        choices=("auto", "teacher", "student", "try"),
    ),
    "init_channels": Setting(str, "how the start chooses the teacher's channels", "norm", choices=("even", "norm")),
    "init_fit": Setting(bool, "fit the start's convolutions to the teacher's by least squares", True),
    "init_warmup": Setting(
        float,
        "share of the epochs in which the learning rate of a fitted start grows; 0: as usual",
        0.0,
        low=0,
        below=1,
    ),
    "teach": Setting(str, "whether the terms teach; auto: where they pay", "auto", choices=("auto", True, False)),
    **term_settings(),
    "balance": Setting(
        str, "auto: gains follow the terms' gradients; fixed: they stay", "fixed", choices=("fixed", "auto")
    ),
    "share": Setting(
        float,
        "wanted gradient of each term, by the task's; share.TERM= of one",
        {name: term.share for name, term in TABLE.items()},
        above=0,
        below=1,
        per_term=True,
    ),
    # What each does: distillation/gain_schedule.py.
    "schedule": Setting(
        str,
        "how all terms' strength goes over the run; schedule.TERM= of one",
        dict.fromkeys(TABLE, "ramp"),
        choices=("ramp", "constant", "cosine", "mosaic"),
        per_term=True,
    ),
    "ramp_epochs": Setting(float, "epochs over which the terms grow to their gains", 3.0, low=0),
    "teacher_precision": Setting(
        str,
        "how the teacher is computed; auto takes the fastest",
        "auto",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
    ),
    "kd_until": Setting(
        float,
        "share of the epochs after which the teacher rests; null: once it is passed",
        above=0,
        high=1,
        nullable=True,
    ),
    "teacher_weights": Setting(str, "file of a torchvision teacher's weights", nullable=True),
    "teacher_names": Setting(
        str, "class names of such weights that bring none: a YAML file, or names with commas", nullable=True
    ),
    "teacher_outputs": Setting(str, "YAML file that says how to read an ONNX teacher's outputs", nullable=True),
    "teacher_imgsz": Setting(
        int, "side of the pictures as the teacher sees them; a multiple of imgsz", low=32, nullable=True
    ),
    "class_map": Setting(str, "YAML file, the teacher's class name: the data's class name", nullable=True),
    "unlabeled": Setting(
        str, "pictures without labels: folder, glob, video, what yolo-distill label wrote", nullable=True
    ),
    "unlabeled_ratio": Setting(float, "unlabelled pictures for each labelled one in a batch", above=0, nullable=True),
    "unlabeled_every": Setting(int, "every n-th frame of a video is taken", 10, low=1),
    "unlabeled_conf": Setting(
        float,
        "score above which the teacher's boxes on them are labels as well; null: none",
        above=0,
        below=1,
        nullable=True,
    ),
    "match": Setting(str, "whether every class of the data needs a teacher", "all", choices=("all", "some")),
    "assistant": Setting(
        str, "distilled first, then the student's teacher; several: largest first, with commas", nullable=True
    ),
    "teacher_epochs": Setting(
        int,
        "epochs of training the teacher on the data first; null: only an architecture, as long as the student",
        low=1,
        nullable=True,
    ),
    "force": Setting(
        bool, "go on with a teacher that is no larger than the student, or worse than the student's own weights", False
    ),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code", False),
}

#: Settings that hold one value a term, given as `share.logit=0.2`, or one for all.
PER_TERM = tuple(key for key, setting in SETTINGS.items() if setting.per_term)


def on_command_line() -> dict[str, Setting]:
    """Return the rows without defaults, as what is not given comes from the recipe, and those of a single term."""
    found = {}
    for key, setting in SETTINGS.items():
        shown = _in_brief(setting.default) if setting.per_term else setting.default
        found[key] = replace(setting, default=None, required=False, shown=shown)
        if setting.per_term:
            found |= {f"{key}.{term}": replace(found[key], help=f"the same of {term} alone") for term in TABLE}
    return found


def _in_brief(values: Mapping[str, Any]) -> str:
    """Return the defaults of all terms, such as 0.1 to 0.2."""
    different = sorted(set(values.values()))
    return f"{different[0]} to {different[-1]}" if len(different) > 1 else str(different[0])
