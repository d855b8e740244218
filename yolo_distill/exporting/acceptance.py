"""Decides whether a file of lower precision is as good as the fp32 file it came from, by measuring both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_distill.evaluation.detection_agreement import MAX_SCORE_GAP, MIN_MATCHED, agreement
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.exporting.export_data import ExportData

#: Why a file is refused whose fp32 file finds nothing where there are boxes.
UNTRAINED = "in fp32 the model has 0.0 mAP50-95 on val: train it further"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was measured on a file, and whether that is good enough.

    Attributes:
        ok: whether the file may be shipped.
        loss: what orders attempts: points of mAP50-95, or the share of detections that found no partner, in percent.
        figures: what was measured: `map`, `map50` and `drop` (all in points) on so many `pictures`, or `matched` and
            `score_gap`.
        text: the same in words.
    """

    ok: bool
    loss: float
    figures: dict[str, float]
    text: str

    def __str__(self) -> str:
        return self.text


class Guard:
    """Measures files beside the fp32 file: mAP where the data has boxes, else agreement of the detections.

    Agreement as well where the fp32 file's mAP is 0, from which nothing can be lost.

    Attributes:
        reference: figures of the fp32 file; empty where there is no mAP.
        finds_nothing: whether its mAP is 0.
    """

    def __init__(self, reference: Path, data: ExportData, max_drop: float) -> None:
        """Measure the fp32 file.

        Args:
            reference: the fp32 file.
            data: pictures for agreement and, if there are any, those with boxes.
            max_drop: points of mAP50-95 that may be lost.
        """
        self._file, self._pictures, self._max_drop = reference, data.pictures, max_drop
        self.reference = measure(reference, data.labelled, device="cpu") if data.labelled is not None else {}
        self.finds_nothing = self.reference.get("map") == 0
        self._labelled = data.labelled if self.reference.get("map") else None

    def judge(self, file: Path) -> Verdict:
        """Measure a file and say whether it is good enough."""
        if self._labelled is not None:
            figures = measure(file, self._labelled, device="cpu")
            drop = self.reference["map"] - figures["map"]
            text = f"{figures['map']:.1f} mAP50-95, {-drop:+.2f} to fp32"
            return Verdict(drop <= self._max_drop, drop, {**figures, "drop": round(drop, 3)}, text)
        found = agreement(file, self._file, self._pictures)
        shown = "no detections to compare" if self.finds_nothing and not found.detections else str(found)
        figures = {"matched": round(found.matched, 4), "score_gap": round(found.score_gap, 4)}
        return Verdict(found.good_enough, 100 * (1 - found.matched), figures, f"beside fp32 {shown}")

    def wanted(self) -> str:
        """Return what a file has to reach, in words."""
        if self._labelled is not None:
            return f"at most {self._max_drop:g} mAP50-95 below fp32 ({self.reference['map']:.1f})"
        return f"at least {100 * MIN_MATCHED:g} % of the detections the same, scores off by at most {MAX_SCORE_GAP:g}"


def measure(model: str | Path | Any, data: str | Path, **settings: Any) -> dict[str, float]:
    """Return what `points` does of a model on `val`."""
    return points(evaluate(model, data, **settings))


def points(figures: Mapping[str, float]) -> dict[str, float]:
    """Return `map` (50-95) and `map50` of the evaluator's figures, which are 0 to 1, in points; and `pictures`."""
    return {**{key: round(100 * figures[key], 3) for key in ("map", "map50")}, "pictures": figures["pictures"]}
