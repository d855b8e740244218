"""`yolo-distill train`: a large YOLO teaches a small one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from yolo_distill.errors import RequestError, importing_for
from yolo_distill.given_files import check_model_files
from yolo_distill.host_keys import NOT_IN_TRAIN
from yolo_distill.recipe_table import STUDENT_SIZES, on_command_line
from yolo_distill.results import Figures, TrainResult
from yolo_distill.settings import Setting, given, host_settings
from yolo_distill.spelling import DATA
from yolo_distill.terms_table import TABLE, term_settings

SUMMARY = "teach a small YOLO what a large one knows"

_OF_RECIPE = on_command_line()

#: What has the student chosen by what it costs; of no recipe, as all arms of a comparison have one student.
DEADLINE = {
    "latency": Setting(
        float,
        "most milliseconds a picture, from picture to boxes; the best student that meets it is trained",
        above=0,
    ),
    "threads": Setting(int, "that a detection may use", shown=1, low=1, high=1024),
    "precision": Setting(str, "of the file that will be exported", shown="fp32", choices=("fp32", "int8")),
    "latency_on": Setting(str, "benchmark.json from the machine that counts; not set: this machine is measured"),
}

SETTINGS = {
    "teacher": replace(_OF_RECIPE["teacher"], alone=r"\.(pt|onnx|ya?ml)$"),
    "student": Setting(
        str, "architecture or weights of the student; not set: the nano of the teacher's family", alone=r"\.(pt|ya?ml)$"
    ),
    **STUDENT_SIZES,
    **DEADLINE,
    "recipe": Setting(str, "a file of cfg/ by name, or a path to one", default="default"),
    **{key: setting for key, setting in _OF_RECIPE.items() if key != "teacher"},
}

#: Those of Ultralytics that everyone needs. It reads them; here they are explained.
HOST_SETTINGS = {
    "data": Setting(str, "data set file, such as data=path/to/data.yaml", required=True, alone=DATA),
    "epochs": Setting(int, "times that all pictures are seen", 100),
    "imgsz": Setting(int, "side of the pictures in pixels, a multiple of 32", 640),
    "batch": Setting(int, "pictures at a time", 16),
    "device": Setting(str, "cpu, 0, or 0,1; not set: a GPU if there is one"),
}

GROUPS = {
    "What to give": ["teacher", "student", *STUDENT_SIZES, "recipe"],
    "A deadline, which chooses the student; imgsz=320,256 has it choose between sides as well": list(DEADLINE),
    "Ultralytics' own that everyone needs; all others pass through as well": list(HOST_SETTINGS),
    "Where the student starts": ["init", "init_channels", "init_fit", "init_warmup", "assistant"],
    "Whether and how it is taught on top of that": ["teach", *TABLE],
    "Settings of one term each": [key for key in term_settings() if key not in TABLE],
    "How strongly": ["balance", "share", "schedule", "ramp_epochs", "kd_until"],
    "The teacher": ["teacher_epochs", "teacher_imgsz", "teacher_precision", "class_map", "match"]
    + ["teacher_weights", "teacher_names", "teacher_outputs"],
    "Pictures without labels": ["unlabeled", "unlabeled_ratio", "unlabeled_every", "unlabeled_conf"],
    "Against a refusal": ["force", "trust"],
}

NOTES = """\
Every training setting of Ultralytics passes through: project=, name=, seed=, optimizer=, workers=, cache=, ...
resume=path/to/last.pt goes on with an interrupted run.

  yolo-distill train teacher=my_yolo26s.pt student=yolo26n.yaml data=data.yaml imgsz=320 epochs=100
  yolo-distill train teacher=my_yolo26s.pt latency=15 precision=int8 data=data.yaml imgsz=320,256 epochs=100"""

PASSES_HOST_SETTINGS = True
NOT_HERE = NOT_IN_TRAIN
LOOK_FIRST = check_model_files


def call(settings: dict[str, Any], extra: dict[str, Any]) -> TrainResult:
    """Run a distillation; `extra` is settings of Ultralytics, as text or as they are."""
    student, recipe = settings.pop("student"), settings.pop("recipe")
    sizes = {key: settings.pop(key) for key in STUDENT_SIZES}
    deadline = {key: settings.pop(key) for key in DEADLINE}
    own, host = given(settings), host_settings(extra)
    asked = _read_deadline(deadline, student, sizes, host)
    if not host.get("resume"):
        with importing_for("training", torch=False):
            from yolo_distill.engine.train_request import read_train_request
        read_train_request(own, host, recipe)  # before the seconds that torch takes
    with importing_for("train"):
        from yolo_distill.engine.run import train
    if asked is None:
        folder = train(own, host, student=student, sizes=sizes, recipe=recipe)
    else:
        from yolo_distill.comparison.candidates import Deadline
        from yolo_distill.comparison.deadline import Choice

        choice = Choice(Deadline(**asked))
        folder = train(own, host, recipe=recipe, choose=choice)
        choice.keep(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    best, last = (folder / "weights" / f"{name}.pt" for name in ("best", "last"))
    return TrainResult(best, last, folder, Figures.of(summary["student"]), Figures.of(summary["teacher"]), summary)


def _read_deadline(
    deadline: dict[str, Any], student: str | None, sizes: dict[str, Any], host: dict[str, Any]
) -> dict[str, Any] | None:
    """Return what `Deadline` takes, or None without one; of several sides the first is left in `host`.

    Raises:
        RequestError: it contradicts what is given besides.
    """
    if deadline["latency"] is None:
        for key, value in given(deadline).items():
            raise RequestError(f"{key}={value}: belongs to latency=, such as latency=15 (ms a picture); give both")
        return None
    said = f"latency={deadline['latency']:g}"
    if host.get("resume"):
        raise RequestError(f"{said}: resume= goes on with the student that the run has; leave latency= out")
    for key in ("student_width", "student_depth"):
        if sizes[key] is not None:
            raise RequestError(f"{said}: chooses the size; leave {key}= out, or give student= the ones to choose from")
    imgsz = host.get("imgsz")
    sides = list(imgsz) if isinstance(imgsz, (list, tuple)) else []
    host |= {"imgsz": sides[0]} if sides else {}
    usual = {key: DEADLINE[key].shown for key in ("threads", "precision")}
    return {**deadline, **{key: deadline[key] or value for key, value in usual.items()}} | {
        "sides": sides,
        "students": student,
        "act": sizes["student_act"],
    }


def run(settings: dict[str, Any], extra: dict[str, Any]) -> None:
    """Run a distillation, which says itself what came out."""
    call(settings, extra)
