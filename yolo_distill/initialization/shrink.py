"""A smaller checkpoint out of a trained one, without training: its channels, chosen and fitted as a student's start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as host_version
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.data.dataset import check_data
from yolo_distill.errors import RequestError
from yolo_distill.files import replacing
from yolo_distill.initialization.initialize import begin_inside
from yolo_distill.models.architecture_files import build_plan, read_plan
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import rounded_imgsz, trained_imgsz
from yolo_distill.models.sizes import require_buildable, resized
from yolo_distill.recipe import make_recipe


def shrink(
    teacher: str,
    data: str | Path,
    out: Path,
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
    """Write a checkpoint that any Ultralytics opens, of a smaller model that answers much like a larger one.

    Args:
        teacher: a trained checkpoint.
        data: data set file, whose classes the model gets and on whose training pictures it is fitted.
        out: the file to be.
        student: architecture of the model; None: the teacher's own, at another width.
        width: see `resized`, as `depth` and `act`.
        depth: see there.
        act: see there.
        imgsz: side of the pictures in pixels; None: what the teacher was trained at.
        channels: how they are chosen, as `init_channels`.
        device: where it is fitted.
        trust: load a checkpoint that brings code of its own.

    Returns:
        the model, as the file has it.

    Raises:
        RequestError: saying what has to change; nothing has been written then.
    """
    found = check_data(data, ("train", "val"))
    large = load_detector(teacher, trust=trust, role="teacher")
    said = " ".join(f"{key}={value}" for key, value in _given(student=student, width=width, depth=depth, act=act))
    plan = dict(large.yaml) if student is None else read_plan(student, "student")
    plan = resized(plan, width, depth, act, said=f"student={student}" if student else f"teacher={teacher}")
    require_buildable(plan, said)
    small = build_plan(plan, len(found["names"]), said)
    small.names = {int(index): str(name) for index, name in found["names"].items()}
    # Heads differ by the number of classes.
    theirs, ours = (sum(p.numel() for p in model.model[:-1].parameters()) for model in (large, small))
    if ours > theirs or (ours == theirs and act is None):
        raise RequestError(
            f"{said}: has {ours:,} parameters without its head, and teacher={teacher} has {theirs:,}; give a smaller "
            "one"
        )
    side = rounded_imgsz(small, imgsz or trained_imgsz(large) or DEFAULT_CFG_DICT["imgsz"])
    recipe = make_recipe({"teacher": teacher, "init": "teacher", "init_channels": channels})
    where = select_device(parse_device(device), verbose=False)
    begin_inside(small, large, recipe, data=found, imgsz=side, device=where)
    small.args = {**small.args, "imgsz": side, "data": str(data)}
    _write(small, out)
    return load_detector(out)


def _given(**sizes: Any) -> list[tuple[str, Any]]:
    """Return what was given of the size.

    Raises:
        RequestError: nothing was.
    """
    given = [(key, value) for key, value in sizes.items() if value is not None]
    if not given:
        raise RequestError("width= is missing; give one smaller than the teacher's, e.g. width=0.19")
    return given


def _write(model: DetectionModel, file: Path) -> None:
    """Write what the host writes at the end of a training.

    Relies on: it opens a checkpoint of these keys, in half precision, and trains on from it.
    """
    args: Mapping[str, Any] = model.args
    model.requires_grad_(False)
    kept = {
        "epoch": -1,
        "model": model.half(),
        "train_args": {key: args[key] for key in ("task", "imgsz", "data")},
        "date": datetime.now().isoformat(),
        "version": host_version,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    with replacing(file) as partial:
        torch.save(kept, partial)
