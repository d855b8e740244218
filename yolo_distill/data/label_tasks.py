"""Whether the labels of a data set are those of a task: the host reads others as something that they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.data.utils import img2label_paths

from yolo_distill.data.dataset import pictures_of
from yolo_distill.errors import RequestError

_HOLDS = {
    "detect": "boxes: class x y w h",
    "segment": "outlines: class x1 y1 x2 y2 x3 y3 ...",
    "obb": "turned boxes: class x1 y1 x2 y2 x3 y3 x4 y4",
    "pose": "boxes and keypoints: class x y w h px1 py1 ..., with kpt_shape in the data file",
}
_LOOKED_AT = 50  # label files


def require_labels_of(
    task: str, data: Mapping[str, Any], split: str, said: str, kpt_shape: Sequence[int] | None = None
) -> None:
    """Refuse a data set whose labels are those of another task than a model's.

    A detector learns boxes from outlines as well, as in the host. An empty label file says nothing.

    Args:
        task: of the model.
        data: as `check_data` found it.
        split: that is looked at.
        said: what the user gave, for the message.
        kpt_shape: of a pose model: keypoints, and values of each; None where it takes the data's.

    Raises:
        RequestError: saying which is which.
    """
    shape = data.get("kpt_shape")
    if (task == "pose") != bool(shape):
        has = f"kpt_shape: {list(shape)}" if shape else "no kpt_shape"
        raise RequestError(f"{said}: has {has}, and the model is for {task}, which learns from {_HOLDS[task]}")
    if shape and kpt_shape and list(shape) != list(kpt_shape):
        raise RequestError(
            f"{said}: has kpt_shape: {list(shape)}, and the model finds keypoints of kpt_shape: {list(kpt_shape)}; "
            "give data with the keypoints that it was trained on"
        )
    wanted = 5 + shape[0] * shape[1] if shape else None
    for label in map(Path, img2label_paths(pictures_of(dict(data), split)[:_LOOKED_AT])):
        rows = label.read_text(encoding="utf-8", errors="replace").split("\n") if label.is_file() else []
        for count in (len(row.split()) for row in rows if row.strip()):
            outline = count >= 7 and count % 2 == 1
            if (task in {"segment", "obb"} and not outline) or (wanted and count != wanted):
                raise RequestError(
                    f"{said}: {label.name} has a row of {count} values, and the model is for {task}, which learns "
                    f"from {_HOLDS[task]}"
                )


def labels_are_of(task: str, data: Mapping[str, Any], split: str, kpt_shape: Sequence[int] | None = None) -> bool:
    """Return whether `require_labels_of` is content."""
    try:
        require_labels_of(task, data, split, "data", kpt_shape)
    except RequestError:
        return False
    return True
