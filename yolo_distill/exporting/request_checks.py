"""How large the pictures are that an exported network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import RequestError
from yolo_distill.models.checkpoint import require_side, trained_imgsz


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


def require_branch(model: DetectionModel, nms: bool | None, model_path: str | Path) -> None:
    """Make sure that a checkpoint has the branch that is to be exported.

    Args:
        model: the checkpoint.
        nms: None for the one-to-many branch, False for the one-to-one branch.
        model_path: its file, for the error.

    Raises:
        RequestError: it has the other one only.
    """
    head = model.model[-1]
    if nms is False and getattr(head, "one2one_cv2", None) is None:
        raise RequestError(f"nms=false: {model_path} has no one-to-one branch; leave nms= out")
    if nms is None and getattr(head, "cv2", None) is None:
        raise RequestError(f"nms=none: {model_path} was fused and has only its one-to-one branch left; use nms=false")
