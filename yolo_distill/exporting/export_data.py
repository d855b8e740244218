"""The pictures that an export needs: to prove the file on, to calibrate int8, to measure what precision costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import ROOT

from yolo_distill.data.dataset import check_data, has_labels, pictures_of
from yolo_distill.data.label_tasks import require_labels_of
from yolo_distill.data.samples import read_picture, read_samples
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.validator import check_names, trained_as_one
from yolo_distill.models.tasks import task_of

#: Fewer pictures than these may not show all that the network's tensors can hold.
ENOUGH_TO_CALIBRATE = 128
_MOST_PICTURES = 32


@dataclasses.dataclass(frozen=True)
class ExportData:
    """See the module.

    Attributes:
        pictures: names and BGR pictures (H, W, 3), to run file and torch on.
        labelled: data set file on whose `val` mAP can be measured; None where that has no boxes of these classes.
        calibration: pictures of `train` as the network sees them, (C, height, width) uint8; of int8 only.
        remark: something that the user should know.
    """

    pictures: Sequence[tuple[str, Any]]
    labelled: str | None = None
    calibration: Sequence[npt.NDArray[np.uint8]] = ()
    remark: str = ""


def read_data(
    data: str | Path | None, model: DetectionModel, size: tuple[int, int], precision: str, calibrate: int
) -> ExportData:
    """Read the pictures.

    Args:
        data: data set file, or None.
        model: gives the classes.
        size: height and width of the input in pixels.
        precision: `fp32`, `fp16` or `int8`, which is calibrated.
        calibrate: how many pictures for calibration at most.

    Raises:
        RequestError: no readable pictures, or classes or labels that are not the model's.
    """
    if data is None:
        return ExportData(proof_pictures(None))
    pictures = proof_pictures(data)
    found = check_data(data, ["train", "val"] if precision == "int8" else "val", need_labels=False)
    differ = ""
    try:
        if not trained_as_one(model):
            check_names(dict(model.names), found["names"], str(model.pt_path), data)
    except RequestError as error:
        if precision == "int8":
            raise
        differ = f"no mAP is measured: {error}"
    labelled = str(data) if not differ and has_labels(pictures_of(found, "val")) else None
    if labelled:
        points = getattr(model.model[-1], "kpt_shape", None)
        require_labels_of(task_of(model), found, "val", f"data={data}", points)
    if precision != "int8":
        return ExportData(pictures, labelled, remark=differ)
    calibration = read_samples(found, size, calibrate)
    if not calibration:
        raise RequestError(f"data={data}: none of the pictures of train can be read; int8 is calibrated on them")
    remark = ""
    if len(calibration) < ENOUGH_TO_CALIBRATE:
        remark = f"only {len(calibration)} pictures to calibrate on; {ENOUGH_TO_CALIBRATE} or more are better"
    return ExportData(pictures, labelled, calibration, remark)


def proof_pictures(data: str | Path | None) -> list[tuple[str, Any]]:
    """Return names and BGR pictures: up to 32 from all over `val`, or those in the host's package.

    Raises:
        RequestError: none can be read.
    """
    if data is None:
        files = [str(file) for file in sorted((ROOT / "assets").glob("*.jpg"))]
    else:
        files = pictures_of(check_data(data, "val", need_labels=False), "val", f"data={data}")
        files = [files[int(at)] for at in np.linspace(0, len(files) - 1, min(len(files), _MOST_PICTURES))]
    pictures = [(Path(file).name, read_picture(file, cv2.IMREAD_COLOR)) for file in files]
    readable = [(name, picture) for name, picture in pictures if picture is not None]
    if not readable and data is None:
        raise RequestError("data= is missing: Ultralytics came without its pictures, and the file is proved on some")
    if not readable:
        raise RequestError(f"data={data}: none of the pictures of val can be read")
    return readable
