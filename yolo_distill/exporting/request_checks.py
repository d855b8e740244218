"""What an export of either kind checks before the work, and what it then knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import RequestError
from yolo_distill.exporting.export_data import ExportData
from yolo_distill.exporting.training import name_of, training_of
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import require_rgb, require_side, trained_imgsz
from yolo_distill.models.tasks import task_of


@dataclasses.dataclass(frozen=True)
class Plan:
    """The arguments of an export, checked.

    Attributes:
        model: the checkpoint; not changed.
        source: its name as it was given.
        precision: `fp32`, `fp16` or `int8`.
        size: height and width of the input in pixels.
        nms: the branch: None for one-to-many, False for one-to-one.
        max_drop: points of mAP50-95 that may be lost.
        data: the pictures.
        path: where the file or folder goes.
        progress: called with what is being done.
    """

    model: DetectionModel
    source: str
    precision: str
    size: tuple[int, int]
    nms: bool | None
    max_drop: float
    data: ExportData
    path: Path
    progress: Callable[[str], None]

    @property
    def end2end(self) -> bool:
        """Whether the file holds the one-to-one branch, which needs no NMS."""
        return self.nms is False

    @property
    def file(self) -> Path:
        """Where the checkpoint lies."""
        return Path(str(self.model.pt_path))

    def report_fields(self) -> dict[str, Any]:
        """Return what every report says of it."""
        return {
            "path": str(self.path),
            "source": self.source,
            "precision": self.precision,
            "task": task_of(self.model),
            "imgsz": self.size,
            "end2end": self.end2end,
            "names": dict(self.model.names),
            "data": name_of(self.data.labelled) if self.data.labelled else "",
            "training": training_of(self.model),
        }


def open_checkpoint(
    model_path: str | Path, imgsz: int | str | Sequence[int] | None, nms: bool | None, trust: bool
) -> tuple[DetectionModel, tuple[int, int]]:
    """Return the model, and the height and width of its input in pixels.

    Args:
        model_path: a `.pt` file.
        imgsz: see `input_size`.
        nms: None for the one-to-many branch, False for the one-to-one branch.
        trust: load the checkpoint without the allow-list.

    Raises:
        RequestError: it cannot be opened, lacks the branch, or takes other pictures or sizes.
    """
    model = load_detector(model_path, trust=trust)
    require_rgb(model, f"model={model_path}", "export")
    if nms:
        raise RequestError(
            "nms=true: NMS is done by the runtime, not in the file; use nms=none, or nms=false (v10, 26)"
        )
    head = model.model[-1]
    if nms is False and getattr(head, "one2one_cv2", None) is None:
        raise RequestError(f"nms=false: {model_path} has no one-to-one branch; leave nms= out")
    if nms is None and getattr(head, "cv2", None) is None:
        raise RequestError(f"nms=none: {model_path} was fused and has only its one-to-one branch left; use nms=false")
    return model, input_size(imgsz, model)


def input_size(imgsz: int | str | Sequence[int] | None, model: DetectionModel) -> tuple[int, int]:
    """Return height and width of the network's input in pixels.

    Args:
        imgsz: a number, `"h,w"`, two numbers, or None for what `model` was trained at (640 where it does not say).
        model: gives the stride that both sides have to be multiples of.

    Raises:
        RequestError: not one or two whole numbers, or sizes that the model does not take.
    """
    stride = max(int(model.stride.max()), 32)
    if imgsz is None:
        trained = trained_imgsz(model) or 640
        sides = [trained] if isinstance(trained, int) else list(trained)
        sides = [-(-side // stride) * stride for side in sides]  # the host trains at the next multiple as well
    else:
        try:
            words = imgsz.strip("[]() ").replace("x", ",").split(",") if isinstance(imgsz, str) else imgsz
            sides = [int(side) for side in (words if isinstance(words, Sequence) else [words])]
        except (TypeError, ValueError):
            sides = []
        if len(sides) not in {1, 2}:
            raise RequestError(f"imgsz={imgsz}: expected a number of pixels, or height,width")
    for side in sides:
        require_side(side, model)
    return sides[0], sides[-1]
