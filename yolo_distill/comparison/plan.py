"""What all runs of a comparison share, written down in its folder, so that no two can differ in it by accident."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.comparison.arms import Arm
from yolo_distill.differences import changed_file, changed_values, differs, in_brief
from yolo_distill.engine.provenance import Source
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes
from yolo_distill.models.architecture_files import is_architecture
from yolo_distill.validation import read_json

FILE = "plan.json"
#: Folder of the student's architecture where another size of it was asked for, which is there before the plan.
STUDENT = "student"

#: Settings that change where and how fast runs go, but not what they learn: these may differ from call to call.
_MACHINE = {"device", "workers", "plots", "verbose", "save_period", "show"}
#: Recipe settings of that kind, what is refused or not, and the teacher's, which is compared by its content.
_RECIPE_MACHINE = {"teacher", "teacher_epochs", "trust", "force"}
_ROLES = ("teacher", "student", "data")


def _somewhere(saved: Any) -> Any:
    """Return a source of `plan.json`, which does not say where the file lies, as one that lies nowhere."""
    return {"file": "", **saved} if isinstance(saved, dict) else saved


def _labelled(saved: Any) -> Any:
    """Return the arms of `plan.json`, which stand there by label, each with its label."""
    if not isinstance(saved, dict):
        return saved
    return {label: {**arm, "label": label} if isinstance(arm, dict) else arm for label, arm in saved.items()}


_SavedSource = Annotated[Source, BeforeValidator(_somewhere)]


@dataclass
class Plan:
    """What was asked for, and what `plan.json` holds.

    Attributes:
        teacher: weights or architecture.
        teacher_epochs: of a teacher that is trained first; None: an architecture as long as the arms, and weights not.
        student: weights or architecture.
        data: the data set.
        splits: on which the arms are measured: `val` and, where the data has it, `test`.
        names: class index to name.
        imgsz: side of the pictures in pixels.
        settings: of Ultralytics, given for all arms.
        arms: by label.
        seeds: in the order they were given.
        precision: in which every arm trains on a CPU; None on other devices.
    """

    teacher: _SavedSource
    teacher_epochs: int | None
    student: _SavedSource
    data: _SavedSource
    splits: list[str]
    names: dict[int, str]
    imgsz: int
    settings: dict[str, Any]
    arms: Annotated[dict[str, Arm], BeforeValidator(_labelled)]
    seeds: list[int]
    precision: str | None = None

    @property
    def trains_teacher(self) -> bool:
        """Whether the teacher is trained first, once for all arms."""
        return is_architecture(self.teacher.file) or self.teacher_epochs is not None

    @property
    def headline(self) -> str:
        """The split that the verdict is about."""
        return self.splits[-1]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, without where its files lie."""
        return {
            **vars(self),
            **{role: getattr(self, role).as_dict() for role in _ROLES},
            "arms": {label: arm.as_dict() for label, arm in self.arms.items()},
        }


def earlier_plan(out: Path) -> Plan | None:
    """Return the plan that is in a folder, or None where a new comparison may begin.

    Raises:
        RequestError: it is a file, holds something else, or its plan is damaged.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise RequestError(f"out={out}: is a file; give the name of a folder")
    file = out / FILE
    if file.is_file():
        return read_json(file, Plan, "the plan of a comparison")
    inside = sorted(path.name for path in out.iterdir() if path.name != STUDENT and not path.name.startswith("."))
    if inside:
        raise RequestError(f"out={out}: holds something else ({inside[0]}); give a new or empty folder")
    return None


def joined(before: Plan, plan: Plan, out: Path, trained: Container[str]) -> Plan:
    """Return the plan that is asked for with the arms and seeds that the folder has already in front.

    Raises:
        RequestError: the folder holds a comparison with other settings; says which differ.
    """
    if found := differences(before, plan, trained):
        said = f"holds a comparison with other settings ({in_brief(found)})"
        raise RequestError(f"out={out}: {said}; give the same ones, or another out=")
    # Of what may differ, such as the device, what is given now counts.
    plan.arms = {**before.arms, **plan.arms}
    plan.seeds = list(dict.fromkeys([*before.seeds, *plan.seeds]))
    plan.precision = before.precision
    return plan


def write_plan(out: Path, plan: Plan) -> None:
    """Write the plan into its folder."""
    write_bytes(out / FILE, (json.dumps(plan.as_dict(), indent=2) + "\n").encode())


def differences(before: Plan, now: Plan, trained: Container[str]) -> list[str]:
    """Return in words what of two plans would not be the same, arms and seeds that only one has left out.

    Of the former, what is not trained yet, by label, may differ.
    """
    if not trained:
        return []
    found: list[str] = []
    for role in _ROLES:
        found += changed_file(role, getattr(before, role).as_dict(), getattr(now, role).as_dict())
    there, here = ({"teacher_epochs": plan.teacher_epochs, "imgsz": plan.imgsz} for plan in (before, now))
    found += changed_values(there, here)
    old, new = before.settings, now.settings
    found += _changed_settings(old, new, {*_MACHINE, "imgsz"})
    # What was given for all arms need not be said again for each.
    said = {key for key in {*old, *new} if _differs(key, old, new)}
    if "batch" in said:
        said.add("nbs")  # which follows from it
    for label in (label for label in now.arms if label in before.arms and label in trained):
        rows = _changes_of_arm(before.arms[label], now.arms[label], _MACHINE | said)
        found += [f"arm {label}, {row}" for row in rows]
    return found


def _differs(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Return whether a setting of Ultralytics differs; one that is not given has its default."""
    return differs(*(settings.get(key, DEFAULT_CFG_DICT.get(key)) for settings in (there, here)))


def _changed_settings(there: Mapping[str, Any], here: Mapping[str, Any], ignored: set[str]) -> list[str]:
    same = {key for key in {*there, *here} if not _differs(key, there, here)}
    return changed_values(there, here, ignored | same)


def _changes_of_arm(there: Arm, here: Arm, ignored: set[str]) -> list[str]:
    rows = _changed_settings(there.host, here.host, ignored)
    if there.recipe and here.recipe:
        rows += changed_values(there.recipe, here.recipe, _RECIPE_MACHINE)
        both = sorted(there.files.keys() & here.files.keys())
        rows += [f"{key}: was changed" for key in both if there.files[key] != here.files[key]]
    return rows
