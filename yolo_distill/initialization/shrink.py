"""A smaller checkpoint out of a trained one, without training: its channels, chosen and fitted as a student's start."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as host_version
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.data.class_mapping import few, match_classes, none_in_common
from yolo_distill.data.dataset import check_data
from yolo_distill.data.label_tasks import require_labels_of
from yolo_distill.errors import RequestError
from yolo_distill.files import replacing
from yolo_distill.initialization.initialize import begin_inside
from yolo_distill.initialization.weight_selection import LEAST_SHARE, plan_start
from yolo_distill.models.architecture_files import build_plan, read_plan
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import channels_of, require_channels, rounded_imgsz, trained_imgsz
from yolo_distill.models.sizes import require_buildable, resized
from yolo_distill.recipe import make_recipe


def shrink(
    teacher: str,
    data: str | Path,
    *,
    student: str | None = None,
    width: float | None = None,
    depth: float | None = None,
    act: str | None = None,
    imgsz: int | None = None,
    channels: str = "norm",
    device: str | int | None = None,
    trust: bool = False,
) -> DetectionModel:
    """Return a smaller model that answers much like a larger one; nothing is written.

    Args:
        teacher: a trained checkpoint.
        data: data set file, whose classes the model gets and on whose training pictures it is fitted.
        student: architecture of the model; None: the teacher's own, at another width.
        width: see `resized`, as `depth` and `act`.
        depth: see there.
        act: see there.
        imgsz: side of the pictures in pixels; None: what the teacher was trained at.
        channels: how they are chosen, as `init_channels`.
        device: where it is fitted.
        trust: load a checkpoint that brings code of its own.

    Returns:
        the model, float32, with the weights that `write_checkpoint` keeps of it.

    Raises:
        RequestError: saying what has to change.
    """
    splits = ("train", "val")
    found = check_data(data, splits)
    large = load_detector(teacher, trust=trust, role="teacher")
    require_channels(channels_of(large), found, f"teacher={teacher}")
    said = " ".join(f"{key}={value}" for key, value in _given(student=student, width=width, depth=depth, act=act))
    plan = dict(large.yaml) if student is None else read_plan(student, "student")
    plan = resized(plan, width, depth, act, said=f"student={student}" if student else f"teacher={teacher}")
    require_buildable(plan, said)
    points = found.get("kpt_shape")
    small = build_plan(plan, len(found["names"]), said, kpt_shape=points, channels=channels_of(large))
    for split in splits:
        require_labels_of(small.task, found, split, f"data={data}")
    known: Any = getattr(large.model[-1], "kpt_shape", points)
    if points and list(points) != list(known):
        raise RequestError(
            f"data={data}: has kpt_shape: {list(points)}, and teacher={teacher} finds {list(known)}; use data with "
            "the keypoints that it was trained on"
        )
    small.names = {int(index): str(name) for index, name in found["names"].items()}
    match = match_classes(small.names, large.names)
    if not match.matched:
        raise RequestError(none_in_common(match))
    # Heads differ by the number of classes.
    theirs, ours = (sum(p.numel() for p in model.model[:-1].parameters()) for model in (large, small))
    if ours > theirs or (ours == theirs and act is None):
        raise RequestError(
            f"{said}: has {ours:,} parameters without its head, and teacher={teacher} has {theirs:,}; give a smaller "
            "one"
        )
    share = plan_start(small, large)[1].share
    if share < LEAST_SHARE:
        raise RequestError(
            f"{said}: only {share:.0%} of its parameters correspond to the layers of teacher={teacher}; give a smaller "
            "architecture of the teacher's family"
        )
    if match.untaught:
        LOGGER.warning(f"the teacher does not know {few(match.untaught)}: these are not found before training")
    side = rounded_imgsz(small, imgsz or trained_imgsz(large) or DEFAULT_CFG_DICT["imgsz"])
    recipe = make_recipe({"teacher": teacher, "init": "teacher", "init_channels": channels})
    where = select_device(parse_device(device), verbose=False)
    begin_inside(small, large, recipe, data=found, imgsz=side, device=where)
    # No training has taken place: settings of one would be stated by whatever is made of this.
    small.args = {"task": small.task, "imgsz": side, "data": str(data)}
    return small.half().float()


def _given(**sizes: Any) -> list[tuple[str, Any]]:
    """Return what was given of the size.

    Raises:
        RequestError: nothing was.
    """
    given = [(key, value) for key, value in sizes.items() if value is not None]
    if not given:
        raise RequestError("width= is missing; give one smaller than the teacher's, e.g. width=0.19")
    return given


def write_checkpoint(model: DetectionModel, file: Path) -> None:
    """Write what the host writes at the end of a training, of which any Ultralytics opens it.

    Relies on: it opens a checkpoint of these keys, in half precision, and trains on from it.
    """
    model.requires_grad_(False)
    kept = {
        "epoch": -1,
        "model": model.half(),
        "train_args": dict(model.args),
        "date": datetime.now().isoformat(),
        "version": host_version,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    with replacing(file) as partial:
        torch.save(kept, partial)
