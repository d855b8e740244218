"""A whole distillation run: check the request, get a teacher, train the student, measure both side by side."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import LOGGER
from ultralytics.utils.files import get_latest_run
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.data.unlabelled import unlabelled_ratio
from yolo_distill.distillation.object_terms import ObjectTerm, require_comparable
from yolo_distill.distillation.terms import Levels, require_classes
from yolo_distill.engine.assistants import assistants, distil_assistants
from yolo_distill.engine.init_trial import start_beside_weights, with_better_start
from yolo_distill.engine.optimizer_steps import expected_steps, with_enough_steps
from yolo_distill.engine.provenance import open_model
from yolo_distill.engine.request_checks import (
    for_all_ranks,
    require_gains,
    require_larger,
    require_task,
    require_teachable,
    without_effect,
)
from yolo_distill.engine.run_folder import held_run, new_run, runs_folder
from yolo_distill.engine.run_recipe import MOVABLE, opened_recipe
from yolo_distill.engine.step_cost import require_trainable
from yolo_distill.engine.summary import SUMMARY, measured_by, summarise
from yolo_distill.engine.teacher_quality import look_at_teacher, require_better
from yolo_distill.engine.teacher_setup import (
    check_teachers,
    measure_teachers,
    require_known_classes,
    with_trained_teachers,
)
from yolo_distill.engine.teacher_training import STUDENTS_OWN, strip_checkpoints
from yolo_distill.engine.teaching import require_channels_of_teachers
from yolo_distill.engine.train_request import read_train_request
from yolo_distill.engine.trainer import RECIPE, DistillationTrainer
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.evaluation.validator import AS_ONE
from yolo_distill.host_keys import NOT_IN_TRAIN, check_host_keys
from yolo_distill.initialization.weight_selection import plan_start, require_correspondence
from yolo_distill.models.architecture_files import build_plan, is_architecture, other_size, read_plan
from yolo_distill.models.checkpoint import load_detector, task_of_file
from yolo_distill.models.imgsz import require_side, rounded_imgsz
from yolo_distill.models.sizes import sized_plan, write_plan
from yolo_distill.models.tasks import TASKS, task_of
from yolo_distill.recipe import ARGS_KEY, Recipe, recipe_keys
from yolo_distill.teachers.loading import Teachers
from yolo_distill.teachers.precision import require_precision
from yolo_distill.torchrun import ranks
from yolo_distill.validation import read_yaml


def train(
    own: Mapping[str, Any],
    host: Mapping[str, Any],
    *,
    student: str | None = None,
    sizes: Mapping[str, Any] | None = None,
    recipe: str = "default",
    choose: Callable[[Recipe, Mapping[str, Any], Mapping[str, Any]], tuple[str, int]] | None = None,
) -> Path:
    """Run a distillation from the teacher to the table of both.

    Args:
        own: recipe settings that were given.
        host: Ultralytics' settings that were given.
        student: weights or architecture of the student.
        sizes: of it, see `sized_plan`, which is written beside the run's folder.
        recipe: name or path of the recipe that fills in the rest.
        choose: returns another student and the side of its pictures, of recipe, settings of Ultralytics and data.

    Returns:
        the run's folder: `weights/best.pt`, `results.csv`, `recipe.yaml`, `summary.json`.

    Raises:
        RequestError: something in the request is wrong; nothing has been written then.
    """
    if host.get("resume"):
        check_host_keys(host, recipe_keys(), NOT_IN_TRAIN)
        of_begun = {"student": student, **(sizes or {}), "recipe": None if recipe == "default" else recipe}
        for key, given in of_begun.items():
            if given:
                LOGGER.warning(f"{key}={given} has no effect: resume= goes on with the run's own")
        return resume(own, host)
    checked, settings = read_train_request(own, host, recipe)
    settings = _check_host(settings)
    data = check_data(settings["data"], ("train", "val"))
    if settings.get("single_cls"):
        data = {**data, "names": AS_ONE, "nc": 1}
    settings["data"] = str(Path(data["yaml_file"]).absolute())  # a run may be resumed from another folder
    if choose is not None:
        _check_device(checked, settings)
        student, settings["imgsz"] = choose(checked, settings, data)
    teachers = Teachers.of(checked)
    # The host takes ~ for the name of a folder.
    student = os.path.expanduser(student or default_student(teachers))  # noqa: PTH111 - it may be an address
    sized = sized_plan(student, sizes or {})
    if isinstance(settings.get("pretrained"), str):
        settings["pretrained"] = os.path.expanduser(settings["pretrained"])  # noqa: PTH111
    settings = for_all_ranks(settings)
    _check_device(checked, settings)
    require_teachable(checked, settings)
    settings["task"] = require_task(student, settings.get("task"), checked, data)
    checked = check_pair(student, checked, teachers, data, settings, sized)
    if sized is not None:
        student = write_plan(sized[0], runs_folder(settings))
    inside = may_start_inside(checked, student, settings)
    steps = expected_steps(len(pictures_of(data, "train")), settings)
    for line in without_effect(own, checked, starts_inside=inside, trains_teacher=teachers.trained_first, steps=steps):
        LOGGER.warning(line)
    ratio = unlabelled_ratio(checked, data, runs_folder(settings), settings.get("fraction", 1.0))
    others = {key: value for key, value in settings.items() if key not in STUDENTS_OWN}
    settings = with_enough_steps(len(pictures_of(data, "train")), settings, ratio)  # others have their own epochs
    try:
        checked = with_trained_teachers(checked, teachers, data, others)
    except KeyboardInterrupt:
        LOGGER.warning("interrupted; the same command goes on where the teacher is")
        raise
    teachers = Teachers.of(checked, teachers)
    require_known_classes(checked, teachers, data["names"], others)
    look_at_both(student, checked, teachers, data, settings)

    def distil(stage: Recipe, given: Mapping[str, Any], pupil: str) -> Path:
        return _distil(stage, Teachers.of(stage, teachers), given, pupil)

    if assistants(checked):
        checked = distil_assistants(checked, data, others, distil)
        teachers = Teachers.of(checked, teachers)
        look_at_both(student, checked, teachers, data, settings)  # the last assistant is who teaches
    if checked.init == "try":
        checked = with_better_start(checked, data, settings, student, distil)
    return _distil(checked, teachers, settings, student)


def default_student(teachers: Teachers) -> str:
    """Return the architecture of a student of which nothing was said: the nano of the teacher's family and task.

    Without such a family it is `yolo26n` of the task.

    Raises:
        RequestError: the teacher can't be opened.
    """
    if not teachers.is_one_yolo:
        return "yolo26n.yaml"
    one = teachers.members[0]
    if one.untrained:
        plan, task = read_plan(str(one.file), "teacher"), task_of_file(str(one.file))
    else:
        plan, task = teachers.model(one).yaml, str(teachers.model(one).task)
    nano = other_size(plan, "n")
    return str(nano["yaml_file"]) if nano else f"yolo26n{TASKS[task].ending}.yaml"


def resume(own: Mapping[str, Any], host: Mapping[str, Any], known: Teachers | None = None) -> Path:
    """Go on with a run that was interrupted, to the epoch count it had.

    Raises:
        RequestError: there is no such checkpoint, it is no unfinished distillation run, or its teacher is gone.
    """
    given = host["resume"]
    if given is True and not (given := get_latest_run()):
        raise RequestError("resume=true: no interrupted run found under this folder; give its weights/last.pt")
    last = Path(str(given)).expanduser()
    if not last.is_file():
        raise RequestError(f"resume={given}: no such file; give the weights/last.pt of an interrupted run")
    trust = bool(own.get("trust"))
    model = load_detector(last, trust=trust, role="resume")
    folder = last.absolute().parent.parent
    saved, stripped = model.args.get(ARGS_KEY), False
    if saved is None and (folder / RECIPE).is_file() and not (folder / SUMMARY).exists():
        saved, stripped = read_yaml(folder / RECIPE, f"resume={last}"), True  # stopped while it was measured
    if not isinstance(saved, dict):
        raise RequestError(f"resume={last}: not an interrupted distillation run: it is finished, or a plain training")
    if teacher := model.args.get("distill_model"):
        raise RequestError(
            f"resume={last}: no run of ours: it has distill_model={teacher}, of Ultralytics' distillation"
        )
    recipe = opened_recipe(saved, own)
    teachers = Teachers.of(recipe, known)
    check_teachers(recipe, teachers)
    checkpoint, _ = torch_safe_load(last, safe_only=not trust)
    with held_run(folder):
        if stripped or checkpoint["epoch"] + 1 >= int(model.args["epochs"]):
            return _finish_stripping(last, recipe, teachers, host)
        if ranks.team() is not None:
            host = for_all_ranks({key: model.args.get(key) for key in ("device", "batch")} | dict(host))
        overrides = {**host, **{k: v for k, v in own.items() if v is not None}, "resume": str(last), "model": str(last)}
        overrides["task"] = model.task
        return _finish(DistillationTrainer(overrides=overrides, teachers=teachers))


def _distil(recipe: Recipe, teachers: Teachers, settings: Mapping[str, Any], student: str) -> Path:
    """Train one student with a teacher that has weights; with `resume` go on with that run."""
    if last := settings.get("resume"):
        checkpoint, _ = torch_safe_load(last, safe_only=not recipe.trust)
        folder = Path(last).absolute().parent.parent
        if checkpoint["epoch"] < 0:  # stopped while it was measured
            trained = {**checkpoint["train_args"], "device": settings.get("device")}
            with held_run(folder):
                summarise(folder, recipe, teachers, settings["data"], trained)
            return folder
        moved = {key: settings[key] for key in ("data", "device", "workers") if key in settings}
        return resume({key: getattr(recipe, key) for key in MOVABLE}, {**moved, "resume": last}, teachers)
    with new_run(settings) as folder:
        overrides = {**settings, "model": student, **recipe.model_dump(), "save_dir": str(folder)}
        return _finish(DistillationTrainer(overrides=overrides, teachers=teachers))


def _finish(trainer: DistillationTrainer) -> Path:
    started = time.time()
    try:
        trainer.train()
        if not trainer.best.exists():
            raise DistillError(f"{trainer.best}: no checkpoint was written; the host's messages above say why")
        summarise(Path(trainer.save_dir), trainer.recipe, trainer.teachers, trainer.args.data, vars(trainer.args))
    except BaseException as error:
        saved = trainer.last.exists() and (trainer.resume or trainer.last.stat().st_mtime >= started)
        if saved and isinstance(error, (KeyboardInterrupt, OSError, DistillError)):
            LOGGER.warning(f"stopped; {ranks.goes_on_by(trainer.last)}")
        raise
    return Path(trainer.save_dir)


def _finish_stripping(last: Path, recipe: Recipe, teachers: Teachers, moved: Mapping[str, Any]) -> Path:
    """Finish a run that had all its epochs and was stopped while its checkpoints were stripped, or it was measured.

    Its data and device may be others by now, and are looked at first: a stripped checkpoint can't be resumed.
    """
    args = {**load_detector(last, trust=recipe.trust, role="resume").args}
    args |= {key: moved[key] for key in ("data", "device") if key in moved}
    check_data(args["data"])
    with _in_one_line():
        select_device(parse_device(args.get("device")), verbose=False)
    strip_checkpoints(last, trust=recipe.trust)
    folder = last.absolute().parent.parent
    summarise(folder, recipe, teachers, args["data"], args)
    return folder


def _check_host(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the host's settings as the host reads them, and refuse what it would refuse."""
    if given.get("save") is False:
        raise RequestError("save=False: checkpoints are what a run goes on from, and ends with; leave it out")
    with _in_one_line():
        checked = vars(get_cfg(overrides=dict(given)))
        require_gains(checked)
    return {key: checked[key] for key in given}


def _check_device(recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Refuse a device that is not there, or a precision that it has not."""
    with _in_one_line():
        device = select_device(parse_device(settings.get("device")), verbose=False)
    require_precision(recipe.teacher_precision, device.type)
    if device.type == "cpu":
        require_trainable(settings.get("amp", True))


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Say what the host refuses as one line of ours."""
    try:
        yield
    except (TypeError, ValueError, SyntaxError) as error:
        raise RequestError(" ".join(str(error).split())) from None


def check_pair(
    student: str,
    recipe: Recipe,
    teachers: Teachers,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    sized: tuple[dict[str, Any], str] | None = None,
) -> Recipe:
    """Refuse what can be refused before anything is trained or written: also a pair that does not fit together.

    The host opens the student, and what `pretrained=` names, again and without restriction when it builds it.

    Args:
        student: as given.
        recipe: of the run.
        teachers: of the recipe.
        data: as `check_data` found it.
        settings: Ultralytics' of the run.
        sized: the student of another size, as `sized_plan` returns it.

    Returns:
        the recipe, where `init=auto` of a student with weights of its own is what `start_beside_weights` says.
    """
    require_classes(recipe, len(data["names"]))
    first = check_teachers(recipe, teachers, data)
    require_channels_of_teachers(recipe, teachers, data)
    models = [] if first is None else [first]
    if recipe.init in {"teacher", "try"} and first is None:
        raise RequestError(f"init={recipe.init}: teacher={recipe.teacher} is no YOLO that a student could start from")
    models += [open_model(name, "assistant", data, recipe.trust) for name in assistants(recipe)]
    if sized is None:
        models.append(open_model(student, "student", data, recipe.trust))
    else:
        models.append(build_plan(sized[0], data["nc"], sized[1], kpt_shape=data.get("kpt_shape")))
    if isinstance(side := settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"]), int):
        require_side(side, models[-1])
    if first is not None and teachers.alone:
        require_larger(first, models[-1], recipe, student, sized[1] if sized else "")
    weights = own_weights(student, settings)
    if weights not in {None, student}:
        load_detector(str(weights), trust=recipe.trust, role="pretrained")
    for larger, smaller in itertools.pairwise(models):
        if recipe.init == "teacher" or (recipe.init == "try" and smaller is models[-1]):
            require_correspondence(plan_start(smaller, larger)[1])
        if larger is first and not teachers.alone:
            continue  # several answer in sets, which have no levels
        levels = Levels.match(*([int(s) for s in model.stride] for model in (smaller, larger)))
        if recipe.gains and not levels.common and not recipe.teacher_imgsz:
            raise RequestError(f"teacher and student have no level in common: {levels}")
    corresponds = first is not None and plan_start(models[-1], models[-2])[1].corresponds
    if recipe.init == "auto" and weights is not None and corresponds:
        whole = settings.get("epochs") or DEFAULT_CFG_DICT["epochs"]
        trained, frozen = not is_architecture(recipe.teacher), bool(settings.get("freeze"))
        start = start_beside_weights(int(whole), trained=trained, frozen=frozen)
        recipe = recipe.model_copy(update={"init": start})
    inside = corresponds and recipe.init != "try" and may_start_inside(recipe, student, settings)
    steps = expected_steps(len(pictures_of(dict(data), "train")), settings)
    head, dense = models[-1].model[-1], bool(assistants(recipe)) or (first is not None and teachers.alone)
    speaker: Any = models[-2].model[-1] if dense else None
    objects = ObjectTerm(head, type(speaker) if dense else None, of_set=None if dense else "detect")
    settled = recipe.settled(inside=inside, steps=steps, task=task_of(models[-1]))
    require_comparable(settled, objects, data.get("kpt_shape"), getattr(speaker, "kpt_shape", None))
    return recipe


def own_weights(student: str, settings: Mapping[str, Any]) -> str | None:
    """Return the checkpoint that a student's own weights come from; None where they are random.

    Relies on: the host takes them from the file that `pretrained=` names before the student's own, and none where it is
    false.
    """
    pretrained = settings.get("pretrained")
    if isinstance(pretrained, (str, Path)):
        return str(pretrained)
    return None if pretrained is False or is_architecture(student) else student


def may_start_inside(recipe: Recipe, student: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a student starts inside its teacher, as far as that hangs on what was asked for."""
    return recipe.init in {"teacher", "try"} or (recipe.init == "auto" and own_weights(student, settings) is None)


def look_at_both(
    student: str, recipe: Recipe, teachers: Teachers, data: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Say how good the teacher is here, and refuse one that is worse than the student already is."""
    where = {"imgsz": settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"]), **measured_by(settings)}
    weights = own_weights(student, settings)
    own = None if weights is None else load_detector(weights, trust=recipe.trust, role="student")
    task = task_of_file(student, role="student") if own is None else own.task
    figures: dict[str, Any] = {}

    def measure(file: Path, split: str) -> float:
        figures.update(measure_teachers(recipe, teachers, file, task=task, split=split, **where))
        return float(figures["map"])

    steps = expected_steps(len(pictures_of(dict(data), "train")), settings)
    teaches = bool(recipe.settled(inside=may_start_inside(recipe, student, settings), steps=steps).gains)
    found = look_at_teacher(measure, data, teaches=teaches)
    if found is not None and own is not None:
        where["imgsz"] = rounded_imgsz(own, where["imgsz"])
        require_better(found, own, data, by_boxes=figures["task"] != task, force=recipe.force, **where)
