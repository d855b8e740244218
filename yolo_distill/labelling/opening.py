"""Opens the teacher of a request and tells what it is, so that two requests can be told apart."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.engine.checkpoint import load_ultralytics, rounded_imgsz, trained_imgsz
from yolo_distill.engine.teachers import named
from yolo_distill.engine.teachers import open_teacher as open_named
from yolo_distill.errors import RequestError
from yolo_distill.labelling.request import Request
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.onnx_detector import OnnxTeacher
from yolo_distill.teachers.teacher import Teacher

#: Gives the teacher of a request, and the side in pixels of the squares that it was opened for.
Opener = Callable[[Request], tuple[Teacher, int]]

_USUAL_SIZE = 640


def open_teacher(request: Request) -> tuple[Teacher, int]:
    """Open what `teacher=` names, at the size that was asked for or else at that of its own training.

    Raises:
        RequestError: saying what about it has to change.
    """
    imgsz = _size(request)
    teacher = open_named(
        request.teacher,
        # Of a head with two branches the one-to-many one: what it finds is more accurate, and NMS makes up its mind.
        needs=Needs(one2one=False, maps=False),
        device=request.device,
        imgsz=imgsz,
        trust=request.trust,
        names=request.teacher_names,
        weights=request.teacher_weights,
        outputs=request.teacher_outputs,
    )
    if request.imgsz is None and isinstance(teacher, OnnxTeacher) and teacher.size is not None:
        imgsz = max(teacher.size)  # it would resize others
    return teacher, imgsz


def resolved_device(device: str | None) -> str:
    """Return a device as the host has it, with a number for each `-1`, which may be another GPU each time.

    Raises:
        RequestError: there is no such device.
    """
    before = LOGGER.level
    LOGGER.setLevel(logging.WARNING)  # the host prints a banner before it refuses
    try:
        found = parse_device(device)
        select_device(found, verbose=False)
        return found
    except ValueError:
        raise RequestError(
            f"device={device}: is not on this machine ({torch.cuda.device_count()} GPUs are); give cpu, or leave it out"
        ) from None
    finally:
        LOGGER.setLevel(before)


def _size(request: Request) -> int:
    """Return the side in pixels that was asked for, or the largest one that an Ultralytics teacher was trained at."""
    sizes = []
    for one in named(request.teacher, request.teacher_weights):
        if one.ultralytics:
            model = load_ultralytics(str(one.file), trust=request.trust, role="teacher")
            if size := request.imgsz or trained_imgsz(model):
                sizes.append(rounded_imgsz(model, size))
    fitting = max(sizes, default=request.imgsz or _USUAL_SIZE)
    if request.imgsz not in {None, fitting}:
        raise RequestError(f"imgsz={request.imgsz}: does not fit the strides of the teacher; give {fitting}")
    return fitting


def identity(request: Request) -> dict[str, Any]:
    """Return what the teacher of a request is called, and a digest of all files that make it."""
    pieces = [*request.teacher.split(","), request.teacher_weights, request.teacher_names, request.teacher_outputs]
    digest = hashlib.sha256()
    names = []
    for place, piece in enumerate(pieces):
        text = (piece or "").strip()
        file = Path(text.rpartition(":")[2]).expanduser()
        if file.is_file():
            digest.update(file.read_bytes())
            text = text.removesuffix(text.rpartition(":")[2]) + file.name
        digest.update(f"\0{place} {text}\0".encode())
        names += [text] if text else []
    return {"name": ",".join(names), "digest": digest.hexdigest()[:16]}
