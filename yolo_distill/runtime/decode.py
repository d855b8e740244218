"""From the network's raw answer for one picture to boxes, scores and classes.

Two layouts exist. Dense: (4 + nc + E, A), a column per anchor point holding centre x, centre y, width, height and a
score per class; many columns tell of the same object. End to end: (N, 6 + E), a row per object holding the corners, the
score and the class, best first; rows that were not needed have score 0. Boxes are in pixels of the input in both.

E numbers more are a task's own: the weights of the mask's prototypes, the keypoints, or the angle. A turned box is
centre x, centre y, width, height in both layouts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_distill.runtime.letterbox import Floats
from yolo_distill.runtime.nms import nms
from yolo_distill.runtime.turned_boxes import turned_nms

_MOST_CANDIDATES = 30_000  # the host's limit as well; a P2 model at 1280 px has 100,000 anchor points


class Boxes(NamedTuple):
    """Detections in pixels of the input.

    Attributes:
        xyxy: (N, 4) corners; of turned boxes centre, width and height.
        scores: (N,).
        class_id: (N,).
        own: (N, E) the numbers of the task.
    """

    xyxy: Floats
    scores: Floats
    class_id: npt.NDArray[np.int64]
    own: Floats

    def pick(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice) -> Boxes:
        """Return some of the detections."""
        return Boxes(self.xyxy[which], self.scores[which], self.class_id[which], self.own[which])


def decode_dense(
    raw: Floats,
    *,
    conf: float,
    iou: float,
    max_det: int,
    classes: npt.NDArray[np.int64] | None,
    agnostic: bool,
    own: int = 0,
    turned: bool = False,
) -> Boxes:
    """Return what a dense answer (4 + nc + E, A) holds after non-maximum suppression, best first.

    Each anchor point counts for its best class only.

    Args:
        raw: the answer.
        conf: scores have to be above.
        iou: overlap above which the worse of two boxes goes.
        max_det: most detections to return.
        classes: class indices to look for; `None` for all.
        agnostic: whether boxes of different classes suppress each other.
        own: E.
        turned: whether the last number is an angle that the boxes are turned by.

    Raises:
        FloatingPointError: a box, a best score or one of the numbers of a detection is nan or infinite.
    """
    raw, more = raw[: len(raw) - own], raw[len(raw) - own :]
    best = raw[4:].max(0)
    _check_finite(raw[:4], best)
    passed = np.flatnonzero(best > np.float32(conf))
    class_id = raw[4:, passed].argmax(0)
    scores = best[passed]
    if classes is not None:
        wanted = np.isin(class_id, classes)
        passed, class_id, scores = passed[wanted], class_id[wanted], scores[wanted]
    if len(passed) > _MOST_CANDIDATES:
        first = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
        passed, class_id, scores = passed[first], class_id[first], scores[first]
    mine = more[:, passed].T
    _check_finite(mine)
    if turned:
        found = Boxes(raw[:4, passed].T, scores, class_id, mine)
        xywhr = np.concatenate([found.xyxy, mine[:, -1:]], 1)
        return found.pick(turned_nms(xywhr, scores, class_id, iou=iou, limit=max_det, agnostic=agnostic))
    centre, half = raw[:2, passed], raw[2:4, passed] / 2
    found = Boxes(np.concatenate([centre - half, centre + half]).T, scores, class_id, mine)
    return found.pick(nms(found.xyxy, scores, class_id, iou=iou, limit=max_det, agnostic=agnostic))


def decode_end2end(raw: Floats, *, conf: float, max_det: int, classes: npt.NDArray[np.int64] | None) -> Boxes:
    """Return what an end-to-end answer (N, 6 + E) holds, in its own order; the settings are those of `decode_dense`.

    Raises:
        FloatingPointError: a number is nan or infinite.
    """
    _check_finite(raw)
    rows = raw[raw[:, 4] > np.float32(conf)]
    found = Boxes(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), rows[:, 6:])
    if classes is not None:
        found = found.pick(np.isin(found.class_id, classes))
    return found.pick(slice(max_det))


def _check_finite(*parts: Floats) -> None:
    """Refuse nan and infinity, which would be no detection in silence; a sum has them if any of its numbers has."""
    with np.errstate(invalid="ignore", over="ignore"):
        if not all(np.isfinite(part.sum()) for part in parts):
            raise FloatingPointError("nan or infinity in the network's answer")
