"""The two branches of an end-to-end head, one-to-many and one-to-one, and which of them a checkpoint has."""

from __future__ import annotations

from pathlib import Path

from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import RequestError


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
