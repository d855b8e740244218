"""Which boxes become labels: a threshold a class, chosen on labelled pictures where there are some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ultralytics.data.utils import img2label_paths

from yolo_distill.data.dataset import pictures_of
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.box_matching import Boxes, match, read_labels
from yolo_distill.labelling.inference import Fitted, Floats, Found, Predictor
from yolo_distill.labelling.prefetch import prefetch
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.sources import read_picture

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


def calibrate(
    predictor: Predictor,
    data: Mapping[str, Any],
    classes: int,
    *,
    conf: float,
    batch: int,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> list[Threshold]:
    """Return a threshold for each class, chosen on the val split.

    Args:
        predictor: the teacher.
        data: what `check_data` returned.
        classes: how many there are.
        conf: threshold of a class that there is too little to choose by.
        batch: pictures at a time.
        pool: threads that read pictures ahead.
        progress: says how far it is.

    Raises:
        RequestError: no picture can be read, or a label file is none.
    """
    files = pictures_of(dict(data), "val")
    gathered, waiting, looked_at = Calibration(classes), list[tuple[Fitted, Boxes]](), 0

    def read(file: str) -> Fitted | None:
        image = read_picture(file)
        return None if image is None else predictor.fit(image)

    def ask() -> None:
        answers = predictor([fitted for fitted, _ in waiting])
        for found, (_, labels) in zip(answers, waiting, strict=True):
            gathered.add(found, labels)
        waiting.clear()

    for place, (file, fitted) in enumerate(zip(files, prefetch(pool, read, files, 2 * batch), strict=True), 1):
        if fitted is not None:
            waiting.append((fitted, _labels(file, fitted.transform.picture)))
            looked_at += 1
        if len(waiting) == batch or (waiting and place == len(files)):
            ask()
            progress.report(f"choosing thresholds: {place:,} of {len(files):,} pictures of val")
    if not looked_at:
        raise RequestError(f"data={data.get('yaml_file')}: none of the {len(files)} pictures of val can be read")
    return gathered.choose(conf)


def in_one_line(names: Sequence[str], thresholds: Sequence[Threshold], most: int = 12) -> str:
    """Return thresholds in one line."""
    parts = [
        f"{name} {threshold.at:.3g} ({'conf=' if threshold.f1 is None else f'F1 {threshold.f1:.2f} on val'})"
        for name, threshold in zip(names, thresholds, strict=True)
    ]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def _labels(file: str, size: tuple[int, int]) -> Boxes:
    (label,) = img2label_paths([file])
    try:
        return read_labels(Path(label), *size)
    except ValueError as error:
        raise RequestError(f"{label}: is no label file ({' '.join(str(error).split())})") from None
