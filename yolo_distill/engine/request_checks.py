"""What of a distillation request can be refused, or is without effect, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils.torch_utils import parse_device

from yolo_distill.data.label_tasks import require_labels_of
from yolo_distill.errors import RequestError
from yolo_distill.models.checkpoint import task_of_file
from yolo_distill.models.imgsz import longest_side
from yolo_distill.recipe import USUAL, Recipe
from yolo_distill.teachers.stored import holds_answers
from yolo_distill.terms_table import TABLE, TERMS
from yolo_distill.torchrun import ranks

_MOST_EPOCHS = 1_000_000
_START = ("init_channels", "init_fit", "init_warmup")
#: Settings that say how a teacher teaches.
_OF_TEACHING = {*TERMS, "teacher_precision", "kd_until", "balance", "ramp_epochs", "schedule"}
#: Terms that settings of one term alone are about.
_TERM_OF = {key: name for name, term in TABLE.items() for key in term.settings}


def for_all_ranks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a device for each process that torchrun started on a machine; as they are without torchrun.

    Raises:
        RequestError: there are more or fewer devices, or a batch can't be divided among the processes.
    """
    team = ranks.team()
    if team is None:
        return dict(settings)
    world, here = team.place.world, team.place.local_world
    device = parse_device(settings.get("device"))
    if not device and torch.cuda.is_available():
        device = ",".join(map(str, range(here)))
    if device not in {"", "cpu"} and len(device.split(",")) != here:
        raise RequestError(f"device={device}: torchrun started {here} processes on this machine; name {here} devices")
    batch = settings.get("batch") or DEFAULT_CFG_DICT["batch"]
    if batch < 1 or batch % world:
        more = max(-(-int(batch) // world), 1) * world
        raise RequestError(f"batch={batch}: is divided among {world} processes; give a multiple, as batch={more}")
    return {**settings, "device": device or "cpu"}


def require_teachable(recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Refuse a recipe whose terms could do nothing, or not what is asked of them, in a run of these settings.

    Raises:
        RequestError: gains are to follow gradients that can't be measured, a term would end before it begins, or no
            training has so many epochs.
    """
    epochs = settings.get("epochs", DEFAULT_CFG_DICT["epochs"])
    if epochs not in range(1, _MOST_EPOCHS + 1):
        raise RequestError(f"epochs={epochs}: expected a whole number from 1 to {_MOST_EPOCHS:,}")
    compiled = settings.get("compile")
    if recipe.balance == "auto" and recipe.gains and compiled:
        raise RequestError(
            f"balance=auto: the gradients of a compiled student can't be measured; leave compile={compiled} out, or "
            "give balance=fixed"
        )
    given = {**DEFAULT_CFG_DICT, **settings}
    if recipe.unlabeled and given["batch"] == 1:
        raise RequestError(f"unlabeled={recipe.unlabeled}: batch=1 can't hold both kinds; give batch=2 or more")
    if recipe.unlabeled and given["rect"]:
        raise RequestError(f"unlabeled={recipe.unlabeled}: batches are mixed anew each time; leave rect=True out")
    if (side := recipe.teacher_imgsz) and (
        given["multi_scale"] or given["rect"] or side % longest_side(given["imgsz"])
    ):
        raise RequestError(
            f"teacher_imgsz={side}: has to be a multiple of imgsz={given['imgsz']}, with multi_scale=0 rect=False, as "
            "levels of teacher and student are matched cell by cell"
        )
    closing = given["close_mosaic"]
    ending = [name for name in recipe.gains if recipe.schedule.get(name) == "mosaic"]
    if ending and not settings.get("time") and epochs <= closing:
        raise RequestError(
            f"schedule.{ending[0]}=mosaic: with epochs={epochs} and close_mosaic={closing} mosaic is closed from the "
            "first epoch on, and nothing would be taught; give close_mosaic=0, more epochs, or another schedule"
        )


def require_task(student: str, task: str | None, recipe: Recipe, data: Mapping[str, Any]) -> str:
    """Return the task of a student, which its file says.

    Args:
        student: the file.
        task: that the user gave.
        recipe: of the run.
        data: as `check_data` found it.

    Raises:
        RequestError: another one was given, or a term or the labels are those of another one.
    """
    found = task_of_file(student, trust=recipe.trust, role="student")
    require_learnable(found, student, task, recipe, data)
    return found


def require_learnable(found: str, student: str, task: str | None, recipe: Recipe, data: Mapping[str, Any]) -> None:
    """Refuse a student of the task `found` as `require_task` does; its file need not be there."""
    if task not in {None, found}:
        raise RequestError(f"task={task}: student={student} is a {found} model; leave task= out")
    for name, gain in recipe.gains.items():
        if TABLE[name].task not in {None, found}:
            raise RequestError(f"{name}={gain:g}: student={student} is a {found} model, which has no {name}s")
    if found != "detect" and holds_answers(recipe.teacher):
        raise RequestError(
            f"teacher={recipe.teacher}: holds answers, of which only boxes are taught, and student={student} "
            f"is a {found} model; give the teacher itself, or train on its labels, data={recipe.teacher}/data.yaml"
        )
    if recipe.unlabeled_conf is not None and found != "detect":
        said = f"unlabeled_conf={recipe.unlabeled_conf:g}"
        raise RequestError(f"{said}: makes labels of boxes, and student={student} is a {found} model; leave it out")
    require_labels_of(found, data, "train", f"data={data['yaml_file']}")


def require_larger(teacher: Any, student: Any, recipe: Recipe, named: str, size: str = "") -> None:
    """Refuse a teacher that is no larger than its student, as where the two were swapped.

    Args:
        teacher: the model.
        student: the model.
        recipe: of the run.
        named: the student, as it was given.
        size: that it was given besides, in words.

    Raises:
        RequestError: naming both sizes, unless the recipe says `force`.
    """
    # Heads differ by the number of classes, which says nothing about the networks.
    large, small = (
        sum(p.numel() for layer in one.model[:-1] for p in layer.parameters()) for one in (teacher, student)
    )
    if recipe.force or large > small:
        return
    how, said = ("as large as", "take a smaller student") if large == small else ("larger than", "swap the two")
    if size:
        size, said = f" with {size}", "give a smaller size"
    raise RequestError(
        f"student={named}{size} is {how} its teacher={recipe.teacher} ({small:,} and {large:,} parameters without the "
        f"heads); {said}, or give force=true"
    )


def require_gains(settings: Mapping[str, Any]) -> None:
    """Refuse negative gains of the host's own losses, by which it would train away from the ground truth.

    Raises:
        ValueError: naming it, as the host does for its settings.
    """
    for key in ("box", "cls", "dfl", "dis"):
        if isinstance(gain := settings.get(key), (int, float)) and gain < 0:
            raise ValueError(f"{key}={gain}: a gain is 0 or more")


def without_effect(
    given: Mapping[str, Any], recipe: Recipe, *, starts_inside: bool, trains_teacher: bool, steps: int | None = None
) -> list[str]:
    """Return one line for each setting that was given and does nothing.

    Args:
        given: recipe settings that were given, not those that a recipe file or a default has.
        recipe: what they came to.
        starts_inside: whether the student starts from the teacher's channels.
        trains_teacher: whether the teacher is trained first.
        steps: optimizer steps of the run, where they are known.
    """
    lines = []
    gains = recipe.settled(inside=starts_inside, steps=steps).gains
    alone = bool(recipe.gains) and not gains
    crowded = starts_inside and recipe.cwd is None and not recipe.has_room_for_cwd
    if crowded:
        lines.append("cwd is left out: with share.cwd the shares would come to 1 or more; lower them to have it")
    for key in given:
        owner, _, term = key.partition(".")
        term = term or _TERM_OF.get(key, "")
        if crowded and term == "cwd":
            continue
        if recipe.teach is False and (key in _OF_TEACHING or term):
            lines.append(f"{key}= has no effect with teach=false")
            continue
        if owner == "share" and recipe.balance == "fixed":
            lines.append(f"{key}= has no effect without balance=auto")
        elif alone and (key in _OF_TEACHING or term in USUAL):
            _, why = recipe.teaching(inside=starts_inside, steps=steps)
            lines.append(f"{key}= has no effect: the student trains alone: {why}")
        elif term and term not in gains:
            lines.append(f"{key}= has no effect: {term} has no gain; give {term}=1")
        elif key in _START and not starts_inside:
            lines.append(f"{key}= has no effect: the student starts from its own weights; give init=teacher")
        elif key == "teacher_epochs" and recipe.teacher_epochs and not trains_teacher:
            lines.append(f"{key}= has no effect: teacher={recipe.teacher} is not trained here")
    return lines
