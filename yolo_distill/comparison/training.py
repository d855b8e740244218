"""Trains one run, or goes on with it: from nothing, from its last epoch, or from a run that only lacks its end.

Teacher, plain and host are Ultralytics' own trainer with whole checkpoints and, on a CPU, the same precision as ours,
so that arms differ in what they are taught alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import LOGGER

from yolo_distill.comparison.arms import DISTILLED, HOST, TEACHER
from yolo_distill.comparison.runs import TEACHER_SEED, Job
from yolo_distill.data.dataset import check_data
from yolo_distill.engine.assistants import distil_assistants
from yolo_distill.engine.init_trial import with_better_start
from yolo_distill.engine.run import look_at_both, own_weights
from yolo_distill.engine.run_folder import held_run
from yolo_distill.engine.run_recipe import MOVABLE
from yolo_distill.engine.summary import summarise
from yolo_distill.engine.teacher_training import TeacherTrainer, strip_checkpoints, train_teacher
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import DistillError
from yolo_distill.models.architecture_files import is_architecture
from yolo_distill.recipe import Recipe, check_recipe
from yolo_distill.teachers.loading import Teachers


def train(job: Job) -> Path:
    """Train, and return the weights of the epoch that was best on val."""
    if job.kind == TEACHER:
        if not is_architecture(job.teacher) and job.teacher_epochs is None:
            return Path(job.teacher)
        data = check_data(job.data, ("train", "val"))
        return train_teacher(job.teacher, data, job.host, job.teacher_epochs, trust=job.trust)
    with held_run(job.path):
        return _train_student(job)


def _train_student(job: Job) -> Path:
    if job.kind == DISTILLED:
        recipe, teachers = _prepared(job)
        trainer = partial(DistillationTrainer, teachers=teachers)
        _train_in(job.path, trainer, {**job.host, "model": job.student}, recipe)
    else:
        taught = {"distill_model": job.teacher} if job.kind == HOST else {}
        _train_in(job.path, TeacherTrainer, {**job.host, "model": job.student, "trust": job.trust, **taught})
    best = job.path / "weights" / "best.pt"
    if not best.is_file():
        raise DistillError(f"{best.name}: no checkpoint was written; the messages of Ultralytics in the log say why")
    return best


def _train_in(
    folder: Path, kind: Callable[..., Any], settings: Mapping[str, Any], recipe: Recipe | None = None
) -> None:
    """Train what lies in a folder, which is in the settings as well, to its end, by the trainer that `kind` makes."""
    last = folder / "weights" / "last.pt"
    epoch, epochs = _last_epoch(last) if last.is_file() else (None, 0)
    own = recipe.model_dump() if recipe else {}
    if epoch is None:
        kind(overrides={**settings, **own}).train()
    elif 0 <= epoch < epochs - 1:
        # The folder may have been moved, and the device may be another one than that which the checkpoint remembers.
        moved = {
            key: settings[key] for key in ("data", "device", "workers", "distill_model", "trust") if key in settings
        }
        own = {key: own[key] for key in MOVABLE if key in own}
        where = {"model": str(last), "resume": str(last), "save_dir": str(folder)}
        kind(overrides={**moved, **own, **where}).train()
    elif epoch >= 0:  # stopped after its last epoch, while the host stripped its checkpoints
        strip_checkpoints(last, trust=False)


def _last_epoch(last: Path) -> tuple[int | None, int]:
    """Return the number of a checkpoint's epoch, -1 for a finished run, and how many its run was to have.

    None where the restricted loader does not know what is in it: that of Ultralytics 8.4.180 knows no unfinished run of
    its own distillation, which then begins anew.
    """
    try:
        checkpoint, _ = torch_safe_load(last, safe_only=True)
    except TypeError as error:
        LOGGER.warning(f"{last} can't be gone on with, so the run begins anew: {' '.join(str(error).split())}")
        return None, 0
    return int(checkpoint["epoch"]), int(checkpoint["train_args"]["epochs"])


def _prepared(job: Job) -> tuple[Recipe, Teachers]:
    """Return the recipe and its teachers with weights, once all that it asks for are trained or found."""
    recipe = check_recipe({**(job.recipe or {}), "teacher": job.teacher, "teacher_epochs": None, "trust": job.trust})
    teachers = Teachers.of(recipe)

    def stage(own: Recipe, settings: Mapping[str, Any], student: str) -> Path:
        return _stage(own, Teachers.of(own, teachers), settings, student)

    found = check_data(job.data, ("train", "val"))
    settings = {**job.host, "seed": TEACHER_SEED}
    recipe = distil_assistants(recipe, found, settings, stage)
    teachers = Teachers.of(recipe, teachers)
    if own_weights(job.student, job.host) is not None:  # the teacher, or the assistant, was perhaps trained only now
        look_at_both(job.student, recipe, teachers, found, job.host)
    if recipe.init == "try":
        recipe = with_better_start(recipe, found, settings, job.student, stage)
    return recipe, teachers


def _stage(recipe: Recipe, teachers: Teachers, settings: Mapping[str, Any], student: str) -> Path:
    """Distil an assistant or try a start, or go on with it, and leave the summary by which it is found again."""
    folder = Path(settings["project"]) / str(settings["name"])
    rest = {key: value for key, value in settings.items() if key != "resume"}
    _train_in(folder, partial(DistillationTrainer, teachers=teachers), {**rest, "model": student}, recipe)
    summarise(folder, recipe, teachers, settings["data"], {"imgsz": DEFAULT_CFG_DICT["imgsz"], **settings})
    return folder
