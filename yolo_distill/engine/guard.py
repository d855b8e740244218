"""Decides whether a file of lower precision is as good as the fp32 file it came from, by measuring both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_distill.engine.agreement import agreement
from yolo_distill.engine.evaluate import evaluate

#: What is asked for where no boxes are there to measure mAP with. On BCCD, int8 files within 0.3 points of mAP50-95
#: agree by 0.97 or more.
MIN_MATCHED = 0.95
MAX_SCORE_GAP = 0.03


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was measured on a file, and whether that is good enough.

    Attributes:
        ok: whether the file may be shipped.
        loss: what orders attempts: points of mAP50-95, or the share of detections that found no partner, in percent.
        figures: what was measured: `map`, `map50` and `drop` (all in points), or `matched` and `score_gap`.
    """

    ok: bool
    loss: float
    figures: dict[str, float]

    def __str__(self) -> str:
        if "drop" in self.figures:
            return f"{self.figures['map']:.1f} mAP50-95, {-self.figures['drop']:+.2f} to fp32"
        return (
            f"{100 * self.figures['matched']:.1f} % of the detections the same as in fp32, "
            f"scores off by {self.figures['score_gap']:.3f}"
        )


class Guard:
    """Measures files beside the fp32 file: mAP where the data has boxes, else agreement of the detections.

    Attributes:
        reference: figures of the fp32 file; empty where there is no mAP.
    """

    def __init__(
        self,
        reference: Path,
        pictures: Sequence[tuple[str, Any]],
        *,
        data: str | Path | None,
        max_drop: float,
    ) -> None:
        """Measure the fp32 file.

        Args:
            reference: the fp32 file.
            pictures: names and BGR pictures for agreement.
            data: data set file whose `val` has boxes; None measures agreement.
            max_drop: points of mAP50-95 that may be lost.
        """
        self._reference, self._pictures, self._data, self._max_drop = reference, pictures, data, max_drop
        self.reference = measure(reference, data) if data is not None else {}

    def judge(self, file: Path) -> Verdict:
        """Measure a file and say whether it is good enough."""
        if self._data is not None:
            figures = measure(file, self._data)
            drop = self.reference["map"] - figures["map"]
            return Verdict(drop <= self._max_drop, drop, {**figures, "drop": round(drop, 3)})
        found = agreement(file, self._reference, self._pictures)
        return Verdict(
            found.matched >= MIN_MATCHED and found.score_gap <= MAX_SCORE_GAP,
            100 * (1 - found.matched),
            {"matched": round(found.matched, 4), "score_gap": round(found.score_gap, 4)},
        )

    def wanted(self) -> str:
        """Return what a file has to reach, in words."""
        if self._data is not None:
            return f"at most {self._max_drop:g} mAP50-95 below fp32 ({self.reference['map']:.1f})"
        return f"at least {100 * MIN_MATCHED:g} % of the detections the same, scores off by at most {MAX_SCORE_GAP:g}"


def measure(model: str | Path | Any, data: str | Path, **settings: Any) -> dict[str, float]:
    """Return `map` (50-95) and `map50` of a model on `val`, in points."""
    figures = evaluate(model, data, **settings)
    return {key: round(100 * figures[key], 3) for key in ("map", "map50")}
