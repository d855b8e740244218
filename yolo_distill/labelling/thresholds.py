"""Which boxes become labels: a threshold a class, chosen on labelled pictures where there are some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_distill.data.dataset import pictures_of
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.box_matching import Boxes
from yolo_distill.labelling.inference import Fitted, Predictor
from yolo_distill.labelling.objects import Form, Found
from yolo_distill.labelling.request import Request
from yolo_distill.labelling.truth import read_truth, right
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.letterbox import Floats
from yolo_distill.runtime.progress import Progress

#: Of a class with fewer labelled boxes, the best threshold is a matter of luck.
ENOUGH = 10
_SAID = 12  # classes in a line

Truth = tuple[Boxes, Detections | None]


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
    """Return the class of each box, its surest, (N,), and by how much its score is above that class's threshold, (N,).

    Of scores (N, targets) and thresholds (targets,); a box is a label where its margin is 0 or more.
    """
    classes = scores.argmax(1) if len(scores) else np.zeros(0, np.int64)
    best = scores[np.arange(len(scores)), classes]
    return classes.astype(np.int64, copy=False), best - thresholds[classes]


class Calibration:
    """Gathers what a teacher gets right on labelled pictures, and chooses thresholds by it."""

    def __init__(self, classes: int, form: Form | None = None) -> None:
        self._form = form or Form()
        self._labels = np.zeros(classes, np.int64)
        self._classes: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._scores: list[Floats] = [np.zeros(0, np.float32)]
        self._right: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]

    def add(self, found: Found, labels: Boxes, truth: Detections | None = None) -> None:
        """Look at one picture: each box found, surest first, takes the free label that it overlaps most.

        `truth` is what the labels of other tasks add to boxes, by which the overlap is measured then.

        A worse box never takes a label from a better one, so what is right at one threshold is right at all.
        """
        known = (labels.classes >= 0) & (labels.classes < len(self._labels))
        self._labels += np.bincount(labels.classes[known], minlength=len(self._labels))
        if len(found.boxes):
            self._classes.append(found.scores.argmax(1))
            self._scores.append(found.scores.max(1))
            self._right.append(right(found, labels, truth, self._form))

    def choose(self, conf: float) -> list[Threshold]:
        """Return a threshold for each class: that of the best F1, or `conf` where there is too little to choose by."""
        classes, scores = np.concatenate(self._classes), np.concatenate(self._scores)
        right = np.concatenate(self._right)
        chosen = []
        for column, labels in enumerate(self._labels.tolist()):
            mine = classes == column
            enough = labels >= ENOUGH and mine.any()
            at, f1 = best_f1(scores[mine], right[mine], labels) if enough else (conf, 0.0)
            chosen.append(Threshold(at, labels, f1) if f1 > 0 else Threshold(conf, labels))
        return chosen


def best_f1(scores: Floats, right: npt.NDArray[np.bool_], labels: int) -> tuple[float, float]:
    """Return the threshold with the best F1 = 2 TP / (boxes kept + labels), and that F1.

    Of the scores of one box or more, (N,), whether each has a label, (N,), and how many labels there are.
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
    request: Request,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> list[Threshold]:
    """Return a threshold for each class, chosen on the val split of what `check_data` returned.

    Raises:
        RequestError: no picture, or no label file, can be read.
    """
    files = pictures_of(dict(data), "val")
    form = replace(predictor.form, sigmas=data.get("kpt_oks_sigmas"))
    gathered, waiting, some = Calibration(classes, form), list[tuple[Fitted, Truth]](), False
    left_out: list[str] = []
    for place, (file, fitted) in enumerate(
        zip(files, predictor.read_ahead(pool, files, 2 * request.batch), strict=True), 1
    ):
        if fitted is not None:
            try:
                waiting.append((fitted, read_truth(file, fitted.transform.picture, classes, form)))
                some = True
            except RequestError as error:
                left_out.append(str(error))
        if len(waiting) == request.batch or (waiting and place == len(files)):
            answers = predictor([fitted for fitted, _ in waiting])
            for found, (_, truth) in zip(answers, waiting, strict=True):
                gathered.add(found, *truth)
            waiting.clear()
            progress.report(f"choosing thresholds: {place:,} of {len(files):,} pictures of val")
    if not some:
        why = f" ({left_out[0]})" if left_out else ""
        raise RequestError(f"data={data.get('yaml_file')}: none of the {len(files)} pictures of val can be read{why}")
    if left_out:
        progress.say(f"{len(left_out)} pictures of val left out, as a training does: {left_out[0]}")
    return gathered.choose(request.conf)


def in_one_line(names: Sequence[str], thresholds: Sequence[Threshold]) -> str:
    """Return thresholds in one line."""
    parts = [
        f"{name} {threshold.at:.3g} ({'conf=' if threshold.f1 is None else f'F1 {threshold.f1:.2f} on val'})"
        for name, threshold in zip(names, thresholds, strict=True)
    ]
    return ", ".join(parts[:_SAID]) + (f" and {len(parts) - _SAID} more" if len(parts) > _SAID else "")
