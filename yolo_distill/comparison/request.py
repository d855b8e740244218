"""What a person asked for, checked as a whole before anything is written or trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import LOGGER

from yolo_distill.address import Mirror
from yolo_distill.cluster import Cluster
from yolo_distill.comparison.arms import (
    DISTILLED,
    HOST,
    PLAIN,
    Arm,
    check_host_settings,
    read_arms,
    read_seeds,
    settings_of_recipe,
)
from yolo_distill.comparison.budget import arm_timed, decided
from yolo_distill.comparison.plan import Plan, earlier_plan, joined
from yolo_distill.comparison.precision import choose_precision, device_type, require_precision_of
from yolo_distill.comparison.runs import trained_arms
from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.data.unlabelled import check_unlabelled
from yolo_distill.engine.optimizer_steps import batches_a_step, expected_steps, with_enough_steps
from yolo_distill.engine.provenance import source_of_data, source_of_student, source_of_teacher
from yolo_distill.engine.request_checks import require_task, require_teachable, without_effect
from yolo_distill.engine.run import check_pair, look_at_both, may_start_inside, own_weights
from yolo_distill.engine.teacher_setup import require_known_classes
from yolo_distill.errors import RequestError
from yolo_distill.machine import usable_cores
from yolo_distill.recipe import Recipe, check_recipe, read_recipe_file
from yolo_distill.shard import Shard
from yolo_distill.teachers.loading import Reading, Teachers
from yolo_distill.teachers.precision import require_precision

#: Settings of a recipe that count where nothing is taught.
_OF_THE_START = {"init", "init_channels", "init_fit", "init_warmup", "assistant"}


@dataclass(frozen=True)
class Request:
    """What was asked for, by the command's settings of these names.

    Attributes:
        own: recipe settings for all arms of ours.
        host: settings of Ultralytics for all arms.
        equal_time: whether plain also gets the epochs that distillation's time would have bought.
        cluster: of Ray, which starts the runs; None: processes of this machine.
        shard: the part of the runs that this call does.
        merge: report what there is, and train nothing.
        mirror: of `out` at an address; None: it is kept here alone.
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
    cluster: Cluster | None = None
    shard: Shard = field(default_factory=Shard)
    merge: bool = False
    mirror: Mirror | None = None

    @property
    def trust(self) -> bool:
        """Whether the given checkpoints are loaded without restriction."""
        return bool(self.own.get("trust"))

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return self.cluster.threads if self.cluster else max(usable_cores() // self.jobs, 1)

    @property
    def devices(self) -> list[Any]:
        """Devices for the runs side by side; None: as the host chooses.

        Raises:
            RequestError: there are more than runs at a time.
        """
        if self.cluster:
            return [self.cluster.device]
        given = {**settings_of_recipe(self.recipe), **self.host}.get("device")
        words = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
        devices = [word.strip() if isinstance(word, str) else word for word in words]
        if len(devices) > self.jobs:
            raise RequestError(f"device={given}: a run takes one device here; give jobs={len(devices)} to use them all")
        return devices


def check(request: Request) -> tuple[Plan, list[Arm], list[int]]:
    """Check a request; nothing is written.

    Returns:
        the plan of the folder, with what earlier calls asked for in front, and arms and seeds of this call.

    Raises:
        RequestError: naming the first thing that has to change.
    """
    before = earlier_plan(request.out)
    if request.merge and before is None:
        raise RequestError(f"out={request.out}: holds no runs to merge; give the out= that they were trained with")
    if request.shard.count > 1 and request.equal_time:
        raise RequestError(
            "budget=equal-time: wants the times of all; leave it out here, and give it to the command without shard= "
            "when all shards are done"
        )
    seeds = read_seeds(request.seeds)
    for_all, settings = settings_of_recipe(request.recipe), check_host_settings(request.host)
    arms = read_arms(
        request.arms, recipe=request.recipe, own=request.own, host=settings, teacher=Path(request.teacher).name
    )
    _check_arms(request, arms, before)
    settings = {**for_all, **settings}
    here = {**settings, "device": request.devices[0]}
    # Ray may have GPUs where this process sees none.
    kind = "cuda" if request.cluster and request.cluster.gpus else device_type(here)
    teachers = Teachers(request.teacher, None, Reading(request.trust), _teacher_epochs(request))
    ours = _Ours(request, arms, teachers)
    found = check_data(request.data, ("train", "val"))
    ours.check_recipes(kind, len(pictures_of(dict(found), "train")))
    splits = ["val", *_test(request.data, found)]
    ours.check_pairs(found)
    arms |= ours.with_starts()
    plan = _plan(request, teachers, found, splits=splits, settings=settings, arms=arms, seeds=seeds)
    trained = trained_arms(request.out, before) if before else set()
    if before and request.shard.count > 1:
        trained |= before.arms.keys()  # by other shards, any moment
    _give_steps(plan, found, before if trained else None)
    if before:
        plan = joined(before, plan, request.out, trained)
    ours.check_teaching(found)
    if trained:
        require_precision_of(request.out, plan.precision, kind)
    elif kind == "cpu":  # what is there was chosen for a teacher's beginning alone
        plan.precision = choose_precision(
            plan.student, found, here, imgsz=plan.imgsz, threads=request.threads, trust=request.trust
        )
    else:
        plan.precision = None
    if before is None or not any(arm.kind == DISTILLED for arm in before.arms.values()):
        ours.check_teacher(found, here)
    return plan, [plan.arms[label] for label in arms], seeds


def _plan(
    request: Request, teachers: Teachers, found: Mapping[str, Any], *, splits: list[str], settings: Any, **asked: Any
) -> Plan:
    """Return the plan of a request; what its files hold is read for that."""
    imgsz = settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"])
    if not isinstance(imgsz, int) or imgsz < 1:
        raise RequestError(f"imgsz={imgsz}: a training takes one side in pixels, such as imgsz=640")
    return Plan(
        teacher=source_of_teacher(request.teacher, teachers, found),
        teacher_epochs=teachers.epochs if teachers.trained_first else None,
        student=source_of_student(request.student, found, request.trust),
        data=source_of_data(found, ["train", *splits]),
        splits=splits,
        names={int(index): str(name) for index, name in found["names"].items()},
        imgsz=imgsz,
        settings=settings,
        **asked,
    )


def _check_arms(request: Request, arms: Mapping[str, Arm], before: Plan | None) -> None:
    """Refuse arms of which nothing could be said, and to show ours beside a plain that has another arm's time."""
    if PLAIN not in {*arms, *(before.arms if before else [])}:
        raise RequestError(
            f"arms={request.arms}: lacks plain, with which all others are compared; give arms={PLAIN},{request.arms}"
        )
    if not request.equal_time:
        return
    ours = arm_timed(arms.values())
    if ours is None:
        raise RequestError("budget=equal-time: no arm of ours is there whose time plain could have; add distilled")
    decision = decided(request.out)
    if decision is not None and decision["arm"] != ours:
        raise RequestError(
            f"budget=equal-time: in out={request.out} plain was given the time of {decision['arm']}, not of {ours}; "
            "leave it out, or give another out="
        )


class _Ours:
    """The arms that a request wants taught, each with its recipe and the teacher of the request."""

    def __init__(self, request: Request, arms: Mapping[str, Arm], teachers: Teachers) -> None:
        self._request, self._teachers = request, teachers
        teacher = {"teacher": request.teacher, "teacher_epochs": teachers.epochs}
        self._arms = [(arm, check_recipe({**arm.recipe, **teacher})) for arm in arms.values() if arm.recipe]
        self._host_arms = [arm for arm in arms.values() if arm.kind == HOST]

    def check_recipes(self, device: str, pictures: int) -> None:
        """Refuse recipes that this machine can't follow, and warn of settings and arms that change nothing.

        Args:
            device: its type.
            pictures: to train on.
        """
        for arm, recipe in self._arms:
            with _said_of(arm):
                require_teachable(recipe, arm.host)
                require_precision(recipe.teacher_precision, device)
            inside = may_start_inside(recipe, self._request.student, arm.host)
            steps = expected_steps(pictures, arm.host)
            given = dict.fromkeys(arm.given)
            trains = self._teachers.trained_first
            for line in without_effect(given, recipe, starts_inside=inside, trains_teacher=trains, steps=steps):
                LOGGER.warning(f"arm {arm.label}: {line}")
        found: dict[str, str] = {}
        for arm, recipe in self._arms:
            if (other := found.setdefault(self._training(arm, recipe, pictures), arm.label)) != arm.label:
                LOGGER.warning(
                    f"arms {other} and {arm.label} are the same here, if the student starts inside its teacher"
                )

    def _training(self, arm: Arm, recipe: Recipe, pictures: int) -> str:
        """Return what an arm's training comes to: two that come to the same are one under two names."""
        inside = recipe.init != "try" and may_start_inside(recipe, self._request.student, arm.host)
        settled = recipe.settled(inside=inside, steps=expected_steps(pictures, arm.host))
        values = settled.model_dump(include=None if settled.gains else _OF_THE_START)
        values |= {"init": "teacher"} if inside else {}
        return json.dumps([values, arm.host], sort_keys=True, default=str)

    def check_pairs(self, data: Mapping[str, Any]) -> None:
        """Refuse a student, its teacher and data that do not fit together as an arm wants it."""
        for at, (arm, recipe) in enumerate(self._arms):
            with _said_of(arm):
                require_task(self._request.student, None, recipe, data)
                teachers = Teachers.of(recipe, self._teachers)
                begins = check_pair(self._request.student, recipe, teachers, data, arm.host)
            self._arms[at] = (arm, begins)
        if self._host_arms and not self._teachers.is_one_yolo:
            raise RequestError(
                f"arm {self._host_arms[0].label}: Ultralytics' own distillation takes one YOLO as its teacher, not "
                f"{self._request.teacher}; leave this arm out"
            )

    def with_starts(self) -> dict[str, Arm]:
        """Return the arms by label, each with the start that its pair asks for; the plan has the teacher's epochs."""
        return {
            arm.label: replace(arm, recipe={**(arm.recipe or {}), "init": recipe.init, "teacher_epochs": None})
            for arm, recipe in self._arms
        }

    def check_teaching(self, data: Mapping[str, Any]) -> None:
        """Refuse a teacher that does not know the classes, and unlabelled pictures that can't be taken."""
        for arm, recipe in self._arms if not self._teachers.trained_first else []:
            with _said_of(arm):
                require_known_classes(recipe, Teachers.of(recipe, self._teachers), data["names"], arm.host)
        # All of the pictures are opened, so once for arms that ask for the same.
        different = {(one.unlabeled, one.unlabeled_every): one for _, one in self._arms if one.unlabeled}
        for recipe in different.values():
            check_unlabelled(recipe, data, self._request.out)

    def check_teacher(self, data: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        """Refuse a teacher that is worse than the student already is, where both have weights."""
        student = self._request.student
        for arm, recipe in self._arms[:1]:
            if not self._teachers.trained_first and own_weights(student, arm.host) is not None:
                recipe = recipe.model_copy(update={"trust": self._request.trust})
                look_at_both(student, recipe, Teachers.of(recipe, self._teachers), data, here)


@contextmanager
def _said_of(arm: Arm) -> Iterator[None]:
    """Name the arm in what is refused."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"arm {arm.label}: {error}") from None


def _give_steps(plan: Plan, found: Mapping[str, Any], begun: Plan | None) -> None:
    """Give all arms and the teacher the `nbs` of the comparison, where none was given.

    One that was begun goes on as it did, with its own or, where it has none, the host's.
    """
    if "nbs" in plan.settings:
        return
    if begun is not None:
        nbs = begun.settings.get("nbs")
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


def _teacher_epochs(request: Request) -> int | None:
    """Return the epochs of a teacher that is trained first: those given, else those of the recipe of `distilled`."""
    given = {**read_recipe_file(request.recipe, DEFAULT_CFG_DICT)[0], **request.own}["teacher_epochs"]
    return None if given is None else int(given)
