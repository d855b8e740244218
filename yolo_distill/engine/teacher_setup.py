"""The teachers of a run before it starts: checked, trained where they have to be, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.data.class_mapping import ClassMatch, match_classes, read_class_map, require_match, taught_names
from yolo_distill.data.dataset import check_data
from yolo_distill.data.label_tasks import labels_are_of, require_labels_of
from yolo_distill.distillation.terms import require_classes
from yolo_distill.engine.teacher_training import train_teacher
from yolo_distill.engine.torchvision_training import train_torchvision
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.evaluation.evaluate_teacher import evaluate_teacher
from yolo_distill.evaluation.validator import AS_ONE
from yolo_distill.models.architecture_files import build_plan, read_plan
from yolo_distill.models.architectures import KINDS
from yolo_distill.models.checkpoint import kind_of
from yolo_distill.models.imgsz import longest_side, rounded_imgsz
from yolo_distill.models.tasks import task_of
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.loading import TORCHVISION, Named, Teachers, read_names, with_absolute_files
from yolo_distill.teachers.several import load_fusion
from yolo_distill.teachers.stored import answering_classes
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.terms_table import FEATURE_TERMS

#: What a teacher is asked for when it is measured: its boxes and scores.
ANSWERS = Needs(scores=True, boxes=True, one2one=True, maps=False)


def check_teachers(recipe: Recipe, teachers: Teachers, data: Mapping[str, Any] | None = None) -> DetectionModel | None:
    """Refuse teachers that can't be opened, before anything is trained or gone on with.

    Returns:
        the first YOLO among them, which a student can start from; with random weights where it is trained first.

    Raises:
        RequestError: saying what about which has to change.
    """
    first: DetectionModel | None = None
    read_names(recipe.teacher_names)
    members = teachers.members
    if recipe.class_map:
        read_class_map(recipe.class_map)
        if all(one.trained_first for one in members):
            raise RequestError(f"class_map={recipe.class_map}: the teacher learns the data's own classes; leave it out")
    if recipe.gains and not teachers.alone:
        load_fusion()
    if (feature := [name for name in FEATURE_TERMS if name in recipe.gains]) and not any(map(_shows_maps, members)):
        raise RequestError(f"teacher={recipe.teacher}: shows no feature maps; use {feature[0]}=0")
    for one in members:
        if one.stored:
            answering_classes(Path(recipe.teacher).expanduser())
            if side := recipe.teacher_imgsz:  # they were given once, about whole pictures
                said = f"teacher={recipe.teacher}: holds answers"
                raise RequestError(f"{said}, to which teacher_imgsz={side} means nothing; leave it out")
        elif one.torchvision:
            if one.file is not None:
                teachers.torchvision(one, 64)
        elif one.onnx:
            teachers.onnx(one)
        else:
            if one.trained_first:
                of, said = data or {}, f"teacher={one.file}"
                plan = read_plan(str(one.file), "teacher") if one.untrained else teachers.model(one).yaml
                model = build_plan(plan, of.get("nc", 1), said, KINDS, of.get("kpt_shape"))
                if data:
                    require_labels_of(task_of(model), data, "train", f"{said} learns data={data['yaml_file']}")
            else:
                model = teachers.model(one)
            if first is None and kind_of(model) == "yolo":
                first = model
    return first


def _shows_maps(one: Named) -> bool:
    """Return whether a teacher may have maps of a student's strides: ONNX files and stored answers hold none."""
    return one.ultralytics or (one.torchvision is not None and not one.torchvision.startswith("ssd"))


def with_trained_teachers(
    recipe: Recipe, teachers: Teachers, data: Mapping[str, Any], settings: Mapping[str, Any]
) -> Recipe:
    """Return the recipe with weights for all of its teachers: those named, and those that are trained now."""
    parts, epochs = [], recipe.teacher_epochs
    if recipe.teacher_imgsz:  # as it will be asked
        settings = {**settings, "imgsz": recipe.teacher_imgsz}
    for one in teachers.members:
        if not one.trained_first:
            parts.append(one.text)
        elif one.torchvision:
            parts.append(f"{TORCHVISION}{one.torchvision}:{train_torchvision(one.torchvision, data, settings, epochs)}")
        else:
            parts.append(str(train_teacher(str(one.file), data, settings, epochs, trust=recipe.trust)))
    trained = {"teacher": ",".join(parts), "teacher_weights": None, "teacher_epochs": None}
    return with_absolute_files(recipe.model_copy(update=trained))


def require_known_classes(
    recipe: Recipe, teachers: Teachers, names: Mapping[int, str], settings: Mapping[str, Any]
) -> None:
    """Refuse teachers that do not know the classes that they are to teach.

    Raises:
        RequestError: saying which.
    """
    if not recipe.gains:
        return
    side = _side(recipe, settings.get("imgsz"))
    teacher = teachers.open(ANSWERS, "cpu", side, teacher_imgsz=recipe.teacher_imgsz).teacher
    classes = classes_of(recipe, names, teacher).only(taught_names(names, settings))
    require_classes(recipe, len(classes.matched))
    features = bool(recipe.gains.keys() & set(FEATURE_TERMS))
    try:
        require_match(classes, some=recipe.match == "some", features_only_possible=features)
    except RequestError as error:
        if recipe.settled(inside=True).gains:
            raise
        raise RequestError(f"{error}; a student that starts inside it can do without, with recipe=init") from None


def classes_of(recipe: Recipe, names: Mapping[int, str], teacher: Teacher) -> ClassMatch:
    """Return which of a teacher's classes speak for which of the data's, as the recipe has it.

    Raises:
        RequestError: as `read_class_map` and `match_classes`.
    """
    return match_classes(names, teacher.names, read_class_map(recipe.class_map) if recipe.class_map else None)


def measure_teachers(
    recipe: Recipe,
    teachers: Teachers,
    data: str | Path,
    *,
    task: str | None = None,
    split: str = "val",
    imgsz: Any,
    **how: Any,
) -> dict[str, Any]:
    """Measure a recipe's teachers on one split, as they answer together, unless that was done in the same way before.

    Args:
        recipe: says whose classes theirs are.
        teachers: of the recipe, with weights.
        data: data set file.
        task: of the student that the teacher is compared with: one of another task is measured by its boxes, `task`
            `detect`. None: by what it finds, where the data's labels tell.
        split: of it.
        imgsz: of the student's run.
        **how: settings of `evaluate`. One YOLO is measured by all of them; others by `device`, `single_cls` and
            `classes`, and by default in the rest.

    Returns:
        as `evaluate`; of other teachers than one YOLO also `parameters`, where they can be counted, and `file_bytes`.

    Raises:
        RequestError: they do not know the data's classes, and the recipe does not say that some will do; or only their
            boxes can be measured, and the student's are turned.
    """
    read_by = recipe.class_map, recipe.match, recipe.teacher_imgsz
    key = repr((str(data), task, split, imgsz, read_by, sorted(how.items())))
    if key not in teachers.figures:
        teachers.figures[key] = _measure(recipe, teachers, data, task, split, imgsz, how)
    return dict(teachers.figures[key])


def _measure(
    recipe: Recipe,
    teachers: Teachers,
    data: str | Path,
    task: str | None,
    split: str,
    imgsz: Any,
    how: Mapping[str, Any],
) -> dict[str, Any]:
    members, single_cls = teachers.members, bool(how.get("single_cls"))
    if members[0].stored:
        raise RequestError(f"teacher={recipe.teacher}: holds answers, and can't be asked about other pictures")
    names = AS_ONE if single_cls else check_data(data, split)["names"]
    if teachers.alone and members[0].ultralytics and not recipe.class_map:
        model = teachers.model(members[0])
        same = [str(name) for name in model.names.values()] == list(names.values())
        # One of another task than the data's or the student's is measured by its boxes, below.
        fits = kind_of(model) == "yolo" and task in {None, model.task} and fits_labels(model, data, split)
        if fits and (same or single_cls):
            return evaluate(model, data, split=split, imgsz=rounded_imgsz(model, recipe.teacher_imgsz or imgsz), **how)
    if task == "obb":
        raise RequestError(f"teacher={recipe.teacher}: its upright boxes say little beside the student's turned ones")
    # At its own size a teacher is measured on pictures of that size, not on enlarged ones of the student's.
    where: dict[str, Any] = {"split": split, "imgsz": _side(recipe, imgsz), "single_cls": single_cls}
    where["device"] = parse_device(how.get("device"))  # once: -1, an idle GPU, may be another one the next time
    where["classes"] = how.get("classes")
    opened = teachers.open(ANSWERS, select_device(where["device"], verbose=False), where["imgsz"])
    match = classes_of(recipe, names, opened.teacher)
    if not single_cls:
        taught = match.only(taught_names(names, where))
        require_match(taught, some=recipe.match == "some", features_only_possible=False)
    columns = dict(zip(match.student, match.sources, strict=True))
    return {**evaluate_teacher(opened.teacher, data, columns=columns, **where), **_size(members, opened.members)}


def fits_labels(model: DetectionModel, data: str | Path, split: str) -> bool:
    """Return whether the labels of a split are of a YOLO's own task, with as many keypoints."""
    points = getattr(model.model[-1], "kpt_shape", None)
    return labels_are_of(model.task, check_data(data, split), split, points)


def _size(members: Sequence[Named], opened: Sequence[Teacher]) -> dict[str, int | None]:
    """Return how large teachers are together: `parameters`, None where a file does not tell, and `file_bytes`."""
    models = [getattr(one, "model", None) for one in opened]
    counts = [sum(p.numel() for p in model.parameters()) for model in models if model is not None]
    files = [Path(str(one.file)).expanduser() for one in members]
    return {
        "parameters": sum(counts) if len(counts) == len(models) else None,
        "file_bytes": sum(file.stat().st_size for file in files) if all(map(Path.is_file, files)) else None,
    }


def _side(recipe: Recipe, imgsz: Any) -> int:
    """Return the side of the pictures as the teacher sees them, a multiple of 32 pixels."""
    side = recipe.teacher_imgsz or imgsz or DEFAULT_CFG_DICT["imgsz"]
    return -(-longest_side(side) // 32) * 32
