"""Which boxes become labels: a threshold a class, chosen on labelled pictures where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolo_distill.comparison.matching import Boxes, match
from yolo_distill.labelling.inference import Floats, Found

#: Of a class with fewer labelled boxes, the best threshold is a matter of luck.
ENOUGH = 10


@dataclass(frozen=True)
class Threshold:
    """From which score on a box of a class becomes a label.

    Attributes:
        at: the score.
        boxes: labelled boxes of the class that were looked at.
        f1: what it reaches on them; None where it was not chosen on them.
    """

    at: float
    boxes: int = 0
    f1: float | None = None


def hard_labels(scores: Floats, thresholds: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the class of each box, its surest, and by how much its score is above that class's threshold.

    Args:
        scores: (N, targets).
        thresholds: (targets,).

    Returns:
        classes (N,) and margins (N,); a box is a label where its margin is 0 or more.
    """
    classes = scores.argmax(1) if len(scores) else np.zeros(0, np.int64)
    best = scores[np.arange(len(scores)), classes]
    return classes.astype(np.int64, copy=False), best - thresholds[classes]


class Calibration:
    """Gathers what a teacher gets right on labelled pictures, and chooses thresholds by it."""

    def __init__(self, classes: int) -> None:
        self._labels = np.zeros(classes, np.int64)
        self._scores: list[list[Floats]] = [[] for _ in range(classes)]
        self._right: list[list[npt.NDArray[np.bool_]]] = [[] for _ in range(classes)]

    def add(self, found: Found, labels: Boxes) -> None:
        """Look at one picture: each box found, surest first, takes the free label that it overlaps most.

        A worse box never takes a label from a better one, so what is right at one threshold is right at all.
        """
        known = (labels.classes >= 0) & (labels.classes < len(self._labels))
        self._labels += np.bincount(labels.classes[known], minlength=len(self._labels))
        if not len(found.boxes):
            return
        classes = found.scores.argmax(1)
        best = found.scores.max(1)
        right = match(Boxes(found.boxes, classes), labels).right
        for column in np.unique(classes).tolist():
            mine = classes == column
            self._scores[column].append(best[mine])
            self._right[column].append(right[mine])

    def choose(self, conf: float) -> list[Threshold]:
        """Return a threshold for each class: that of the best F1, or `conf` where there is too little to choose by."""
        return [self._of(column, conf) for column in range(len(self._labels))]

    def _of(self, column: int, conf: float) -> Threshold:
        labels = int(self._labels[column])
        if labels < ENOUGH or not self._scores[column]:
            return Threshold(conf, labels)
        scores, right = np.concatenate(self._scores[column]), np.concatenate(self._right[column])
        at, f1 = best_f1(scores, right, labels)
        return Threshold(at, labels, f1) if f1 > 0 else Threshold(conf, labels)


def best_f1(scores: Floats, right: npt.NDArray[np.bool_], labels: int) -> tuple[float, float]:
    """Return the threshold with the best F1 = 2 TP / (boxes kept + labels), and that F1.

    Args:
        scores: of boxes found, (N,), at least one.
        right: whether each has a label, (N,).
        labels: how many there are.
    """
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(scores) + 1) + labels)
    # Boxes of one score are kept or left together: only the last of them is a place to cut.
    f1[:-1][scores[:-1] == scores[1:]] = 0
    cut = int(f1.argmax())
    below = scores[min(cut + 1, len(scores) - 1)]
    # Halfway to the next box: on another machine, whose scores differ in their last digits, it cuts at the same place.
    return round(float(scores[cut] + below) / 2, 6), round(float(f1[cut]), 3)


def at(thresholds: Sequence[Threshold]) -> Floats:
    """Return the scores alone, (targets,)."""
    return np.array([threshold.at for threshold in thresholds], np.float32)
