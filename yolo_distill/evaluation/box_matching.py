"""How well boxes found in one picture agree with its labels: what is right, what is false, what was missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ultralytics.data.utils import img2label_paths, verify_image_label
from ultralytics.utils.metrics import bbox_ioa

from yolo_distill.errors import RequestError
from yolo_distill.evaluation.detection_agreement import greedy_pairs
from yolo_distill.models.checkpoint import no_auto_install

Floats = npt.NDArray[np.float32]

OVERLAP = 0.5


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one picture.

    Attributes:
        xyxy: (N, 4) corners, in pixels.
        classes: (N,) class index.
    """

    xyxy: Floats
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True, eq=False)
class Match:
    """What of the found boxes is right.

    Attributes:
        right: (N,) whether a found box has a label of its class at an overlap (IoU) of 0.5 or more.
        seen: (M,) whether a label was found.
    """

    right: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is nothing and nothing was found."""
        hits = int(self.right.sum())
        total = len(self.right) + len(self.seen)
        return 2 * hits / total if total else 1.0


def match(found: Boxes, labels: Boxes, overlaps: Floats | None = None) -> Match:
    """Give each found box, best first, the free label of its class that it overlaps most.

    By the IoU of boxes, or by other overlaps (N, M).
    """
    right, seen = np.zeros(len(found), bool), np.zeros(len(labels), bool)
    if overlaps is None:
        overlaps = bbox_ioa(found.xyxy, labels.xyxy, iou=True)
    allowed = (overlaps >= OVERLAP) & (found.classes[:, None] == labels.classes[None, :])
    for place, label in greedy_pairs(overlaps, allowed):
        right[place] = seen[label] = True
    return Match(right, seen)


@no_auto_install()
def labels_of(
    picture: str, size: tuple[int, int], classes: int, kpt_shape: Sequence[int] | None = None
) -> tuple[Boxes, list[Floats], Floats | None]:
    """Return the labels of a picture as the host reads them for a training; no label file means no boxes.

    Args:
        picture: the file.
        size: its height and width in pixels.
        classes: of its data set.
        kpt_shape: of labels with keypoints: how many follow each box in its row, and numbers of each.

    Returns:
        boxes, of an outline that around it; the outlines, (points, 2), and the keypoints, (N, points, 3), in shares of
        width and height.

    Raises:
        RequestError: the host leaves the picture out.
    """
    (label,) = img2label_paths([picture])
    read = verify_image_label((picture, label, "", kpt_shape is not None, classes, *(kpt_shape or (0, 0)), False))
    if read[0] is None:
        why = str(read[-1]).rpartition("ignoring corrupt image/label: ")[2]
        raise RequestError(f"{label}: is no label file ({' '.join(why.split())})")
    rows = read[1]
    centres, half = rows[:, 1:3], rows[:, 3:5] / 2
    corners = np.concatenate([centres - half, centres + half], 1) * np.tile(np.array(size[::-1], np.float32), 2)
    return Boxes(corners, rows[:, 0].astype(np.int64)), read[3], read[4]
