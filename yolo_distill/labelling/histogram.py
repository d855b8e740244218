"""A histogram of scores, with the threshold in it: where its bars stand in a small picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 150, 34


@dataclass(frozen=True)
class Bar:
    """A bar, in pixels from the upper left corner of the picture.

    Attributes:
        x: its left side.
        y: its upper side.
        width: across.
        height: from the bottom.
        label: whether its boxes become labels.
    """

    x: float
    y: float
    width: float
    height: float
    label: bool


@dataclass(frozen=True)
class Histogram:
    """The picture.

    Attributes:
        bars: of the scores that there are.
        threshold: where its line stands, in pixels.
        width: of the whole.
        height: of the whole.
    """

    bars: list[Bar]
    threshold: float
    width: int = WIDTH
    height: int = HEIGHT


def histogram(counts: Sequence[int], threshold: float) -> Histogram:
    """Return the picture.

    Args:
        counts: boxes by score, in equal steps from 0 to 1.
        threshold: score from which on a box is a label.
    """
    highest, step = max([*counts, 1]), WIDTH / len(counts)
    bars = []
    for place, count in enumerate(counts):
        if count:
            # One box beside ten thousand is seen as well.
            height = max((HEIGHT - 4) * count / highest, 1.5)
            label = (place + 0.5) / len(counts) >= threshold
            bars.append(Bar(place * step + 0.5, HEIGHT - height, step - 1, height, label))
    return Histogram(bars, threshold * WIDTH)
