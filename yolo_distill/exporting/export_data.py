"""The pictures that an export needs: to prove the file on, to calibrate int8, to measure what precision costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.dataset import check_data, has_labels, pictures_of
from yolo_distill.data.samples import read_samples
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.validator import check_names
from yolo_distill.exporting.parity import proof_pictures

#: Fewer pictures than these may not show all that the network's tensors can hold.
ENOUGH_TO_CALIBRATE = 128


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
        precision: `fp32`, `fp16` or `int8`.
        calibrate: how many pictures for calibration at most.

    Raises:
        RequestError: int8 without data, no readable pictures, or classes that are not the model's.
    """
    if data is None:
        if precision == "int8":
            raise RequestError("precision=int8: give data=, a data set file whose train pictures it is calibrated on")
        return ExportData(proof_pictures(None))
    pictures = proof_pictures(data)
    found = check_data(data, ["train", "val"] if precision == "int8" else "val", need_labels=False)
    differ = _differ(model, found, data)
    labelled = str(data) if not differ and has_labels(pictures_of(found, "val")) else None
    if precision != "int8":
        return ExportData(pictures, labelled, remark=f"no mAP is measured: {differ}" if differ else "")
    if differ:
        raise RequestError(differ)
    calibration = read_samples(found, size, calibrate)
    if not calibration:
        raise RequestError(f"data={data}: none of the pictures of train can be read; int8 is calibrated on them")
    few = len(calibration) < ENOUGH_TO_CALIBRATE
    remark = (
        f"only {len(calibration)} pictures to calibrate on; {ENOUGH_TO_CALIBRATE} or more are better" if few else ""
    )
    return ExportData(pictures, labelled, calibration, remark)


def _differ(model: DetectionModel, found: dict[str, Any], data: str | Path) -> str:
    """Return in what the classes of model and data differ; empty where they do not."""
    try:
        check_names(dict(model.names), found["names"], str(model.pt_path), data)
    except RequestError as error:
        return str(error)
    return ""
