"""Curves over the epochs as SVG: the mean of an arm as a thick line, each of its seeds as a thin one."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 30

#: Ways to tell lines apart; the page gives each a colour for light and for dark, and dashes from the ninth line on.
COLOURS, DASHES = 8, 3

Line = Sequence[float | None]


def accuracy_curves(summary: Mapping[str, Any]) -> str:
    """Return the curves of mAP50-95 on val, or nothing where there are none."""
    return chart(
        {label: _lines(summary, label, "metrics/mAP50-95(B)", 100.0) for label in summary["arms"]}, "mAP50-95 on val"
    )


def share_curves(summary: Mapping[str, Any]) -> str:
    """Return the gradient of each term at the neck, by the task's, of the arm that the verdict is about."""
    records = [record for record in summary["records"] if record["arm"] == summary["headline"]["arm"]]
    terms = list(dict.fromkeys(term for record in records for term in record["shares"]))
    lines = {term: [record["shares"][term] for record in records if term in record["shares"]] for term in terms}
    return chart(lines, "gradient at the neck, by the task's", digits=2)


def chart(series: Mapping[str, Sequence[Line]], title: str, digits: int = 0) -> str:
    """Return an SVG chart with a legend.

    Args:
        series: lines by name, one value an epoch, from epoch 1; None where there is no value.
        title: what the vertical axis shows.
        digits: behind the point of its marks.
    """
    series = {name: [line for line in lines if any(v is not None for v in line)] for name, lines in series.items()}
    values = [value for lines in series.values() for line in lines for value in line if value is not None]
    if not values:
        return ""
    longest = max(len(line) for lines in series.values() for line in lines)
    low, high, step = _scale(min(values), max(values))

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(longest - 1, 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def path(line: Line, kind: str) -> str:
        points = [f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in enumerate(line, 1) if value is not None]
        if len(points) == 1:  # a line of one point is not seen
            across, down = points[0].split(",")
            return f'<circle class="{kind}" cx="{across}" cy="{down}" r="3"/>'
        return f'<polyline fill="none" stroke="currentColor" class="{kind}" points="{" ".join(points)}"/>'

    parts = []
    marks = [low + step * number for number in range(round((high - low) / step) + 1)]
    for mark in marks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{_mark(mark, digits)}</text>')
    for epoch in sorted({1, longest, *(round(longest * k / 4) for k in (1, 2, 3) if longest >= 8)}):
        anchor = "end" if epoch == longest > 1 else "middle"
        parts.append(f'<text x="{x(epoch):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{epoch}</text>')
    drawn = [(_look(place), name, lines) for place, (name, lines) in enumerate(series.items()) if lines]
    for look, _, lines in drawn:
        parts += [path(line, f"one {look}") for line in lines if len(lines) > 1]
    for look, _, lines in drawn:
        parts.append(path(_mean(lines), f"mean {look}"))
    legend = "".join(f'<span><i class="{look}"></i>{html.escape(name)}</span>' for look, name, _ in drawn)
    picture = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)} by epoch">'
        f"{''.join(parts)}</svg>"
    )
    caption = f"<figcaption>{html.escape(title)}, by epoch</figcaption>"
    return f'<figure>{caption}<div class="wide chart">{picture}</div><p class="legend">{legend}</p></figure>'


def _look(place: int) -> str:
    dashes = place // COLOURS % DASHES
    return f"c{place % COLOURS}" + (f" d{dashes}" if dashes else "")


def _lines(summary: Mapping[str, Any], label: str, column: str, scale: float) -> list[Line]:
    curves = [record["curve"].get(column, []) for record in summary["records"] if record["arm"] == label]
    return [[None if value is None else scale * value for value in curve] for curve in curves]


def _mean(lines: Sequence[Line]) -> list[float | None]:
    """Return the mean of an epoch over the lines that have it; only as far as all of them go."""
    shortest = min(len(line) for line in lines)
    means: list[float | None] = []
    for values in zip(*(line[:shortest] for line in lines), strict=True):
        found = [value for value in values if value is not None]
        means.append(statistics.fmean(found) if found else None)
    return means


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """Return round ends and a round step of an axis that holds both values."""
    span = max(high - low, 1e-3 * max(abs(high), 1.0))
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return bottom, top if top > bottom else bottom + step, step


def _mark(value: float, digits: int) -> str:
    text = f"{value:.{max(digits, 3)}f}".rstrip("0").rstrip(".")
    return text if text not in {"-0", ""} else "0"
