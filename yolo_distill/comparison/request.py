"""What a person asked for, checked as a whole before anything is written or trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import LOGGER

from yolo_distill.comparison.arms import DISTILLED, HOST, PLAIN, Arm, check_host_settings, read_arms, read_seeds
from yolo_distill.comparison.budget import decided
from yolo_distill.comparison.plan import Plan, earlier_plan, joined, trained_runs
from yolo_distill.comparison.precision import choose_precision, device_type, require_precision_of
from yolo_distill.comparison.results import headline_arm
from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.data.unlabelled import check_unlabelled
from yolo_distill.engine.optimizer_steps import batches_a_step, with_enough_steps
from yolo_distill.engine.provenance import source_of_data, source_of_model, source_of_teacher
from yolo_distill.engine.request_checks import require_teachable, without_effect
from yolo_distill.engine.run import check_pair, look_at_both, may_start_inside, own_weights
from yolo_distill.engine.teacher_setup import require_known_classes
from yolo_distill.errors import RequestError
from yolo_distill.machine import usable_cores
from yolo_distill.models.checkpoint import is_architecture
from yolo_distill.recipe import check_recipe, read_recipe_file
from yolo_distill.teachers.loading import Reading, Teachers
from yolo_distill.teachers.precision import require_precision

#: Settings of a recipe that count where nothing is taught.
_OF_THE_START = {"init", "init_channels", "init_fit", "init_warmup", "assistant"}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        teacher: weights or architecture.
        student: weights or architecture.
        data: the data set file.
        out: the folder.
        arms: words of the arms, comma-separated.
        seeds: comma-separated.
        recipe: what the arm `distilled` is, by name or path.
        own: recipe settings for all arms of ours.
        host: settings of Ultralytics for all arms.
        jobs: runs at a time.
        equal_time: whether plain also gets the epochs that distillation's time would have bought.
    """

    teacher: str
    student: str
    data: str
    out: Path
    arms: str
    seeds: str
    recipe: str
    own: Mapping[str, Any]
    host: Mapping[str, Any]
    jobs: int
    equal_time: bool

    @property
    def trust(self) -> bool:
        """Whether the given checkpoints are loaded without restriction."""
        return bool(self.own.get("trust"))

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return max(usable_cores() // self.jobs, 1)

    @property
    def devices(self) -> list[Any]:
        """Devices by slot; None: as the host chooses.

        Raises:
            RequestError: there are more than runs at a time.
        """
        given = self.host.get("device")
        words = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
        devices = [word.strip() if isinstance(word, str) else word for word in words]
        if len(devices) > self.jobs:
            raise RequestError(f"device={given}: a run takes one device here; give jobs={len(devices)} to use them all")
        return devices


@dataclass(frozen=True)
class Checked:
    """A request that can be done.

    Attributes:
        plan: of the folder, with what earlier calls asked for in front.
        labels: of the arms that this call asks for.
        seeds: that this call asks for.
    """

    plan: Plan
    labels: list[str]
    seeds: list[int]


def check(request: Request) -> Checked:
    """Check a request; nothing is written.

    Raises:
        RequestError: naming the first thing that has to change.
    """
    before = earlier_plan(request.out)
    seeds = read_seeds(request.seeds)
    settings = check_host_settings(request.host, "")
    arms = read_arms(
        request.arms, recipe=request.recipe, own=request.own, host=settings, teacher=Path(request.teacher).name
    )
    if PLAIN not in {*arms, *(before["arms"] if before else [])}:
        raise RequestError(
            f"arms={request.arms}: lacks plain, with which all others are compared; give arms={PLAIN},{request.arms}"
        )
    if request.equal_time and not any(arm.kind == DISTILLED for arm in arms.values()):
        raise RequestError("budget=equal-time: no arm of ours is there whose time plain could have; add distilled")
    if request.equal_time:
        _check_decision(request.out, arms)
    here = {**settings, "device": request.devices[0]}
    for arm in arms.values():
        _check_recipe(arm, device_type(here))
        _say_without_effect(arm, request)
    _say_alike(arms, request)
    found = check_data(request.data, ("train", "val"))
    splits = ["val", *_test(request.data, found)]
    teachers = Teachers(request.teacher, reading=Reading(request.trust))
    for arm in arms.values():
        if arm.recipe is not None:
            _check_pair(arm, request, teachers, found)
        elif arm.kind == HOST:
            _check_host_pair(arm, request, teachers)
    imgsz = settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"])
    if not isinstance(imgsz, int) or imgsz < 1:
        raise RequestError(f"imgsz={imgsz}: a training takes one side in pixels, such as imgsz=640")
    plan = Plan(
        teacher=source_of_teacher(request.teacher, teachers, found["nc"]),
        teacher_epochs=_teacher_epochs(request),
        student=source_of_model(request.student, "student", found["nc"], request.trust),
        data=source_of_data(found, ["train", *splits]),
        splits=splits,
        names={int(index): str(name) for index, name in found["names"].items()},
        imgsz=imgsz,
        settings=settings,
        arms=arms,
        seeds=list(seeds),
    )
    for arm in arms.values():
        _check_teaching(arm, request, teachers, found)
    _check_unlabelled(arms, request, found)
    begun = before if before is not None and trained_runs(request.out, before) else None
    _give_steps(plan, found, begun)
    if before is not None:
        plan = joined(before, plan, request.out)
    if begun is None:  # what only a teacher's beginning was chosen for
        plan.precision = choose_precision(
            plan.student, found, here, imgsz=imgsz, threads=request.threads, trust=request.trust
        )
    else:
        require_precision_of(request.out, plan.precision, here)
    if before is None or not any(arm["kind"] == DISTILLED for arm in before["arms"].values()):
        _check_teacher(request, teachers, arms, found, here)
    return Checked(plan, list(arms), seeds)


def _give_steps(plan: Plan, found: Mapping[str, Any], begun: Mapping[str, Any] | None) -> None:
    """Give all arms and the teacher the `nbs` of the comparison, where none was given.

    One that was begun goes on with its own; one of an older version has none, and keeps the host's.

    Args:
        plan: of this call.
        found: what `check_data` returned.
        begun: what was planned and trained in the folder; None where nothing was.
    """
    if "nbs" in plan.settings:
        return
    if begun is not None:
        nbs = begun["settings"].get("nbs")
    else:
        nbs = with_enough_steps(len(pictures_of(dict(found), "train")), plan.settings).get("nbs")
    if nbs is None:
        return
    gathered = batches_a_step(plan.settings.get("batch", DEFAULT_CFG_DICT["batch"]), nbs)
    for label, arm in plan.arms.items():
        if "nbs" not in arm.host:  # as many batches a step, whatever their size
            own = gathered * arm.host.get("batch", DEFAULT_CFG_DICT["batch"])
            plan.arms[label] = replace(arm, host={**arm.host, "nbs": own})
    plan.settings["nbs"] = nbs


def _test(data: str, found: Mapping[str, Any]) -> list[str]:
    """Return the test split where it can be used: some data sets come without its pictures, or without its labels."""
    if not found.get("test"):
        return []
    try:
        check_data(data, "test")
    except RequestError as error:
        LOGGER.warning(f"arms are judged on val alone: {error}")
        return []
    return ["test"]


def _check_recipe(arm: Arm, device: str) -> None:
    """Refuse a recipe that this machine can't follow."""
    if arm.recipe is None:
        return
    recipe = check_recipe(arm.recipe)
    try:
        require_teachable(recipe, arm.host)
        require_precision(recipe.teacher_precision, device)
    except RequestError as error:
        raise RequestError(f"arm {arm.label}: {error}") from None


def _say_without_effect(arm: Arm, request: Request) -> None:
    """Warn of settings of an arm that do nothing: it would be the same as another without a word."""
    if arm.recipe is None:
        return
    recipe = check_recipe({**arm.recipe, "teacher": request.teacher})
    inside = may_start_inside(recipe, request.student, arm.host)
    trains = is_architecture(request.teacher)
    for line in without_effect(dict.fromkeys(arm.given), recipe, starts_inside=inside, trains_teacher=trains):
        LOGGER.warning(f"arm {arm.label}: {line}")


def _say_alike(arms: Mapping[str, Arm], request: Request) -> None:
    """Warn of arms that come to the same training under two names."""
    found: dict[str, str] = {}
    for arm in arms.values():
        if arm.recipe is None:
            continue
        recipe = check_recipe({**arm.recipe, "teacher": request.teacher})
        inside = recipe.init != "try" and may_start_inside(recipe, request.student, arm.host)
        settled = recipe.settled(inside=inside)
        values = settled.model_dump(include=None if settled.gains else _OF_THE_START)
        values |= {"init": "teacher"} if inside else {}
        key = json.dumps([values, arm.host], sort_keys=True, default=str)
        if (other := found.setdefault(key, arm.label)) != arm.label:
            LOGGER.warning(
                f"arms {other} and {arm.label} are the same where the student starts fitted to its teacher, unless it "
                "is too small for it"
            )


def _check_pair(arm: Arm, request: Request, teachers: Teachers, data: Mapping[str, Any]) -> None:
    """Refuse a teacher and a student that do not fit together as the arm wants it."""
    recipe = check_recipe({**(arm.recipe or {}), "teacher": request.teacher})
    try:
        check_pair(request.student, recipe, Teachers.of(recipe, teachers), data, arm.host)
    except RequestError as error:
        raise RequestError(f"arm {arm.label}: {error}") from None


def _check_teaching(arm: Arm, request: Request, teachers: Teachers, data: Mapping[str, Any]) -> None:
    """Refuse a teacher that does not know the classes."""
    if arm.recipe is None or is_architecture(request.teacher):
        return
    recipe = check_recipe({**arm.recipe, "teacher": request.teacher})
    try:
        require_known_classes(recipe, Teachers.of(recipe, teachers), data["names"], arm.host)
    except RequestError as error:
        raise RequestError(f"arm {arm.label}: {error}") from None


def _check_unlabelled(arms: Mapping[str, Arm], request: Request, data: Mapping[str, Any]) -> None:
    """Refuse unlabelled pictures that can't be taken, which takes a look at all of them."""
    recipes = [check_recipe({**arm.recipe, "teacher": request.teacher}) for arm in arms.values() if arm.recipe]
    different = {(recipe.unlabeled, recipe.unlabeled_every): recipe for recipe in recipes if recipe.unlabeled}
    for recipe in different.values():
        check_unlabelled(recipe, data, request.out)


def _check_decision(out: Path, arms: Mapping[str, Arm]) -> None:
    """Refuse to show ours beside a plain that was given the time of another arm."""
    ours = headline_arm({label: arm.kind for label, arm in arms.items() if arm.kind == DISTILLED})
    decision = decided(out)
    if decision is not None and decision["arm"] != ours:
        raise RequestError(
            f"budget=equal-time: in out={out} plain was given the time of {decision['arm']}, not of {ours}; leave it "
            "out, or give another out="
        )


def _check_teacher(
    request: Request,
    teachers: Teachers,
    arms: Mapping[str, Arm],
    data: Mapping[str, Any],
    here: Mapping[str, Any],
) -> None:
    """Refuse a teacher that is worse than the student already is, where both have weights."""
    ours = next((arm for arm in arms.values() if arm.recipe is not None), None)
    if ours is None or is_architecture(request.teacher) or own_weights(request.student, ours.host) is None:
        return
    recipe = check_recipe({**(ours.recipe or {}), "teacher": request.teacher, "trust": request.trust})
    look_at_both(request.student, recipe, Teachers.of(recipe, teachers), data, here)


def _check_host_pair(arm: Arm, request: Request, teachers: Teachers) -> None:
    """Refuse a teacher that the host's own distillation does not know."""
    if not teachers.is_one_yolo:
        raise RequestError(
            f"arm {arm.label}: Ultralytics' own distillation takes one YOLO as its teacher, not {request.teacher}; "
            "leave this arm out"
        )


def _teacher_epochs(request: Request) -> int | None:
    """Return the epochs of a teacher that is trained first: those given, else those of the recipe of `distilled`."""
    if not is_architecture(request.teacher):
        return None
    given = request.own.get("teacher_epochs")
    return int(given or read_recipe_file(request.recipe, DEFAULT_CFG_DICT)[0]["teacher_epochs"] or 0) or None
