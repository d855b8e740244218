"""In which precision all arms of a comparison train: chosen once.

On a CPU a trainer measures which way is fastest. Two runs that measure for themselves can come out differently, and
then differ in more than their arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics.cfg import get_cfg
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.data.samples import sample_pictures
from yolo_distill.engine.provenance import Source, open_model
from yolo_distill.engine.step_cost import choose_student_precision, require_trainable
from yolo_distill.errors import RequestError
from yolo_distill.models.imgsz import rounded_imgsz
from yolo_distill.timing import AT_A_TIME


def choose_precision(
    student: Source, found: Mapping[str, Any], settings: Mapping[str, Any], *, imgsz: int, threads: int, trust: bool
) -> str:
    """Return `fp32` or `bf16` for a CPU; on other devices the host's `amp` decides without a clock.

    It is measured on the checked data, with as many threads as a run will have.

    Raises:
        RequestError: the machine lacks the device or the precision that is asked for.
    """
    amp = settings.get("amp", True)
    require_trainable(amp)
    model = open_model(student.file, "student", found, trust)
    model.args = get_cfg(overrides=dict(settings))  # the host's loss reads its gains there
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pictures = sample_pictures(dict(found), rounded_imgsz(model, imgsz), AT_A_TIME)
        return choose_student_precision(model, pictures, amp)
    finally:
        torch.set_num_threads(before)


def require_precision_of(out: Path, precision: str | None, device: str) -> None:
    """Refuse to go on with a comparison, begun in a precision of a CPU or on a GPU (None), on the other of the two."""
    if (device == "cpu") != (precision is not None):
        there = "CPU" if precision else "GPU"
        raise RequestError(f"out={out}: was begun on a {there}; go on there, or give another out=")


def device_type(settings: Mapping[str, Any]) -> str:
    """Return `cpu`, `cuda`, `mps`, ...; refuse a device that is not there."""
    try:
        return select_device(parse_device(settings.get("device")), verbose=False).type
    except (TypeError, ValueError) as error:
        raise RequestError(" ".join(str(error).split())) from None
