"""What all runs of a comparison share, written down in its folder, so that no two can differ in it by accident."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from yolo_distill.comparison.arms import TEACHER, Arm, folder_name
from yolo_distill.comparison.job import EPOCHS, RECORD
from yolo_distill.differences import changed_file, changed_values, differs, in_brief
from yolo_distill.engine.provenance import Source
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes
from yolo_distill.recipe import saved_recipe
from yolo_distill.validation import read_json

FILE = "plan.json"

#: Settings that change where and how fast runs go, but not what they learn: these may differ from call to call.
_MACHINE = {"device", "workers", "plots", "verbose", "save_period", "show"}
#: Recipe settings of that kind, and the teacher's, which is compared by its content.
_RECIPE_MACHINE = {"teacher", "teacher_epochs", "trust"}


@dataclass
class Plan:
    """What was asked for.

    Attributes:
        teacher: weights or architecture.
        teacher_epochs: of a teacher that is trained first; None: as the arms'.
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

    teacher: Source
    teacher_epochs: int | None
    student: Source
    data: Source
    splits: list[str]
    names: dict[int, str]
    imgsz: int
    settings: dict[str, Any]
    arms: dict[str, Arm]
    seeds: list[int]
    precision: str | None = None

    @property
    def headline(self) -> str:
        """The split that the verdict is about."""
        return self.splits[-1]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, without where its files lie."""
        return {
            "teacher": self.teacher.as_dict(),
            "teacher_epochs": self.teacher_epochs,
            "student": self.student.as_dict(),
            "data": self.data.as_dict(),
            "splits": self.splits,
            "names": {str(index): name for index, name in self.names.items()},
            "imgsz": self.imgsz,
            "settings": self.settings,
            "arms": {label: arm.as_dict() for label, arm in self.arms.items()},
            "seeds": self.seeds,
            "precision": self.precision,
        }


class SavedSource(TypedDict):
    """A `Source` in `plan.json`."""

    name: str
    digest: str | None


class SavedArm(TypedDict):
    """An `Arm` in `plan.json`."""

    kind: str
    host: dict[str, Any]
    recipe: dict[str, Any] | None
    files: NotRequired[dict[str, str]]


class SavedPlan(TypedDict):
    """What `Plan.as_dict` returns and `plan.json` holds."""

    teacher: SavedSource
    teacher_epochs: int | None
    student: SavedSource
    data: SavedSource
    splits: list[str]
    names: dict[str, str]
    imgsz: int
    settings: dict[str, Any]
    arms: dict[str, SavedArm]
    seeds: list[int]
    precision: str | None


def earlier_plan(out: Path) -> SavedPlan | None:
    """Return the plan that is in a folder, or None where a new comparison may begin.

    Raises:
        RequestError: it is a file, holds something else, or its plan is damaged.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise RequestError(f"out={out}: is a file; give the name of a folder")
    file = out / FILE
    if not file.is_file():
        inside = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if inside:
            raise RequestError(f"out={out}: holds something else ({inside[0]}); give a new or empty folder")
        return None
    return read_json(file, SavedPlan, "the plan of a comparison")


def joined(before: Mapping[str, Any], plan: Plan, out: Path) -> Plan:
    """Return the plan with the arms and seeds that the folder has already in front.

    Raises:
        RequestError: the folder holds a comparison with other settings; says which differ.
    """
    trained = trained_runs(out, before)
    if found := differences(before, plan.as_dict(), trained):
        raise RequestError(
            f"out={out}: holds a comparison with other settings ({in_brief(found)}); "
            "give the same ones, or another out="
        )
    old = {
        label: Arm(label, arm["kind"], arm["host"], arm["recipe"], arm.get("files") or {})
        for label, arm in before["arms"].items()
    }
    # Of what may differ, such as the device, what is given now counts.
    plan.arms = {**old, **plan.arms}
    plan.seeds = [*before["seeds"], *(seed for seed in plan.seeds if seed not in before["seeds"])]
    plan.precision = before["precision"]
    return plan


def make_folder(out: Path) -> None:
    """Make the folder of a comparison.

    Raises:
        RequestError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"out={out}: cannot be made ({error.strerror}); give another folder") from None


def write_plan(out: Path, plan: Plan) -> None:
    """Write the plan into its folder."""
    write_bytes(out / FILE, (json.dumps(plan.as_dict(), indent=2) + "\n").encode())


def trained_runs(out: Path, plan: Mapping[str, Any]) -> set[str]:
    """Return the arms of which a run has begun its training, and `teacher` once that is trained or measured.

    A request that failed before, for a file that is not there, say, may be made anew with other settings.
    """
    found = {TEACHER} if (out / TEACHER / RECORD).is_file() else set()
    for label in plan["arms"]:
        folders = [out / folder_name(label, seed) for seed in plan["seeds"]]
        if any((folder / name).is_file() for folder in folders for name in (RECORD, EPOCHS)):
            found.add(label)
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any], trained: Container[str]) -> list[str]:
    """Return in words what of two plans would not be the same, arms and seeds that only one has left out.

    Args:
        before: the plan of the folder.
        now: the plan that is asked for.
        trained: what of the former there is already, by label; the rest may differ.
    """
    if not trained:
        return []
    found: list[str] = []
    for role in ("teacher", "student", "data"):
        found += changed_file(role, before[role], now[role])
    shared = ("teacher_epochs", "imgsz")
    found += changed_values({key: before[key] for key in shared}, {key: now[key] for key in shared})
    found += changed_values(before["settings"], now["settings"], {*_MACHINE, "imgsz"})
    # What was given for all arms need not be said again for each.
    old, new = before["settings"], now["settings"]
    said = {key for key in {*old, *new} if differs(old.get(key), new.get(key))}
    for label in (label for label in now["arms"] if label in before["arms"] and label in trained):
        there, here = before["arms"][label], now["arms"][label]
        rows = changed_values(there["host"], here["host"], _MACHINE | said)
        if there["recipe"] and here["recipe"]:
            try:
                old, new = (saved_recipe(arm["recipe"]).model_dump() for arm in (there, here))
            except RequestError as error:
                raise RequestError(f"arm {label}: {error}") from None
            rows += changed_values(old, new, _RECIPE_MACHINE)
            # Files by what they hold; folders of older versions don't know that.
            held, holds = there.get("files") or {}, here["files"]
            rows += [f"{key}: was changed" for key in sorted(held.keys() & holds.keys()) if held[key] != holds[key]]
        found += [f"arm {label}, {row}" for row in rows]
    return found
