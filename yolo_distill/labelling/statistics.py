"""What is in a data set, counted row by row: nothing grows with the number of pictures."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolo_distill.labelling.parquet import KEPT, UNREAD, Row
from yolo_distill.labelling.thresholds import hard_labels
from yolo_distill.runtime.letterbox import Floats

#: Bars of a histogram of scores from 0 to 1.
BINS = 25
#: A score is near its threshold within this distance.
NEAR = 0.15

_NAMED = 50  # files that could not be read


@dataclass(frozen=True, eq=False)
class Doubt:
    """A picture that a person should look at.

    Attributes:
        row: the picture.
        sum: of its boxes, each by how near its score is to the threshold: 1 at it, 0 from `NEAR` on.
        near: boxes within that distance.
    """

    row: Row
    sum: float
    near: int


class Statistics:
    """Counts, and keeps the pictures that can be shown about which the teacher is least sure.

    Attributes:
        states: pictures and frames by what became of them.
        frames: of videos among those that are kept.
        boxes: labels of each class, (targets,).
        pictures: pictures with such a label, (targets,).
        histogram: boxes by class and by their best score, labels or not, (targets, BINS).
        unread: path and reason of the first files that could not be read.
        empty: pictures that are kept without a label.
        shown: pictures that can be shown, of which `doubts` are some or all.
    """

    def __init__(self, thresholds: Floats, most: int) -> None:
        """Begin, with the score from which on a box of a class is a label, (targets,), and how many doubts are kept."""
        self._thresholds, self._most = thresholds, most
        self.states: Counter[str] = Counter()
        self.frames = self.empty = self.shown = 0
        self.boxes: npt.NDArray[np.int64] = np.zeros(len(thresholds), np.int64)
        self.pictures: npt.NDArray[np.int64] = np.zeros(len(thresholds), np.int64)
        self.histogram: npt.NDArray[np.int64] = np.zeros((len(thresholds), BINS), np.int64)
        self.unread: list[tuple[str, str]] = []
        # By doubt, then the earlier picture first; no two pictures have one place.
        self._doubts: list[tuple[float, int, int, Doubt]] = []

    @property
    def doubts(self) -> list[Doubt]:
        """The pictures to look at, the least sure first."""
        return [doubt for *_, doubt in sorted(self._doubts, key=lambda one: one[:3], reverse=True)]

    def add(self, row: Row) -> None:
        """Count a row."""
        self.states[row.state] += 1
        if row.state == UNREAD and len(self.unread) < _NAMED:
            self.unread.append((row.source, row.note or ""))
        if row.width is None:
            return
        classes, margins = hard_labels(row.found.scores, self._thresholds)
        bins = (row.found.scores.max(1, initial=0) * BINS).astype(np.int64).clip(max=BINS - 1)
        np.add.at(self.histogram, (classes, bins), 1)
        if row.state == KEPT:
            kept = classes[margins >= 0]
            self.frames += row.frame is not None
            self.empty += not len(kept)
            self.boxes += np.bincount(kept, minlength=len(self.boxes))
            self.pictures[np.unique(kept)] += 1
        nearness = (1 - np.abs(margins) / NEAR).clip(min=0)
        if row.frame is not None and row.file is None:
            return  # a frame that was left out is nowhere to be seen
        self.shown += 1
        doubt = Doubt(row, float(nearness.sum()), int((nearness > 0).sum()))
        entry = (doubt.sum, -row.number, -(row.frame or 0), doubt)
        if len(self._doubts) < self._most:
            heapq.heappush(self._doubts, entry)
        else:
            heapq.heappushpop(self._doubts, entry)
