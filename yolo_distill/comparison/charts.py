"""Curves over the epochs: the mean of an arm as a thick line, each of its seeds as a thin one."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolo_distill.benchmarking.report import front_of
from yolo_distill.comparison.arms import TEACHER
from yolo_distill.comparison.tables import look_up
from yolo_distill.models.tasks import main_map

Floats = npt.NDArray[np.float64]
Line = Sequence[float | None] | Floats


class Theme(NamedTuple):
    """Colours of the numbers at the axes, of the lines behind, and of the curves, one after the other."""

    text: str
    grid: str
    lines: tuple[str, ...]


LIGHT = Theme(
    "#5c6670", "#d9dde1", ("#5c6670", "#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d")
)
DARK = Theme(
    "#9aa5b0", "#343b42", ("#aab4be", "#fb923c", "#7aa7ff", "#4ade80", "#c792ff", "#facc15", "#34d3ee", "#f783b5")
)
#: Where the colours are used up, lines have dashes.
DASHES = ("-", "--", ":")

#: Width and height in inches, on a wide page and on a phone, whose picture is not made smaller: numbers stay legible.
_INCHES, _NARROW = (10, 4.4), (4.6, 3.2)


class Curve(NamedTuple):
    """The lines of one name, one a run, with the numbers of their colour in the theme and of their dashes."""

    name: str
    colour: int
    dashes: int
    lines: list[Floats]


class Chart(NamedTuple):
    """What the vertical axis shows, the curves in the order of the legend, and SVG files in base64."""

    title: str
    curves: list[Curve]
    light: str
    dark: str
    narrow_light: str
    narrow_dark: str


def accuracy_chart(summary: Mapping[str, Any]) -> Chart | None:
    """Return the curves of mAP50-95 on val, in points, or None where there are none."""
    series: dict[str, list[Line]] = {label: [] for label in summary["arms"]}
    for record in summary["records"]:
        series.get(record["arm"], []).append(np.array(main_map(record["curve"]), float))
    return chart(series, f"{summary['headline']['metric']} on val, by epoch")


def share_chart(summary: Mapping[str, Any]) -> Chart | None:
    """Return the gradient of each term at the neck, by the task's, of the arm that the verdict is about."""
    series: dict[str, list[Line]] = {}
    for record in summary["records"]:
        for term, curve in record["shares"].items() if record["arm"] == summary["headline"]["arm"] else ():
            series.setdefault(term, []).append(curve)
    return chart(series, "gradient at the neck, by the task's, by epoch")


def front_chart(summary: Mapping[str, Any]) -> Chart | None:
    """Return accuracy against time, a mark an arm, with a line through the front; None without two that have both."""
    points = front_points(summary)
    if len(points) < 2:
        return None
    order, colours = [*summary["arms"], TEACHER], len(LIGHT.lines)  # colours are those of the curves
    curves = [Curve(name, order.index(name) % colours, 0, [np.array(point, float)]) for name, point in points.items()]
    front = np.array([points[name] for name in front_of(points)])
    drawn = [
        _svg(_draw_points(curves, front, theme, inches)) for inches in (_INCHES, _NARROW) for theme in (LIGHT, DARK)
    ]
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    return Chart(f"{metric} on {split}, by ms a picture (torch, CPU)", curves, *drawn)


def front_points(summary: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return milliseconds a picture and mAP50-95 of teacher and arms, those that have both."""
    where = (summary["headline"]["split"], "one-to-many", "mAP50-95")
    found = {label: look_up(arm["figures"], *where, "mean") for label, arm in summary["arms"].items()}
    found[TEACHER] = look_up((summary["teacher"] or {}).get("figures", {}), *where)
    costs = summary.get("cost") or {}
    return {
        label: (costs[label]["ms"], value) for label, value in found.items() if value is not None and label in costs
    }


def chart(series: Mapping[str, Sequence[Line]], title: str) -> Chart | None:
    """Return a chart, or None where there is no value.

    Args:
        series: lines by name, one value an epoch, from epoch 1; None or nan where there is no value.
        title: what the vertical axis shows.
    """
    colours = len(LIGHT.lines)
    curves = []
    for number, (name, lines) in enumerate(series.items()):
        kept = [found for line in lines if np.isfinite(found := np.array(line, float)).any()]
        if kept:
            curves.append(Curve(name, number % colours, number // colours % len(DASHES), kept))
    if not curves:
        return None
    drawn = [_svg(draw(curves, theme, inches)) for inches in (_INCHES, _NARROW) for theme in (LIGHT, DARK)]
    return Chart(title, curves, *drawn)


def draw(curves: Sequence[Curve], theme: Theme, inches: tuple[float, float] = _INCHES) -> Figure:
    """Return the picture, without names: the page has them below it, where long ones wrap."""
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        style: dict[str, Any] = {"color": theme.lines[curve.colour], "linestyle": DASHES[curve.dashes]}
        for line in curve.lines if len(curve.lines) > 1 else []:
            _plot(axes, line, **style, linewidth=1, alpha=0.4)
        _plot(axes, _mean(curve.lines), **style, linewidth=2.4, zorder=3)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(figure, axes, theme)


def _draw_points(curves: Sequence[Curve], front: Floats, theme: Theme, inches: tuple[float, float]) -> Figure:
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots()
    axes.plot(*front.T, color=theme.text, linewidth=1)
    for curve in curves:
        axes.plot(*curve.lines[0], color=theme.lines[curve.colour], marker="o", markersize=9)
    axes.set_xlim(left=0)
    axes.margins(0.1)
    return _finished(figure, axes, theme)


def _finished(figure: Figure, axes: Any, theme: Theme) -> Figure:
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(length=0, labelsize=12, colors=theme.text)
    axes.grid(axis="y", color=theme.grid, linewidth=1)
    axes.spines[:].set_visible(False)
    return figure


def _plot(axes: Any, line: Floats, **style: Any) -> None:
    """Draw the values that there are; a line of one point is not seen but for its mark."""
    at = np.flatnonzero(np.isfinite(line))
    axes.plot(at + 1, line[at], marker="o" if len(at) == 1 else "", **style)


def _mean(lines: Sequence[Floats]) -> Floats:
    """Return the mean of an epoch over the lines that have it; only as far as all of them go."""
    shortest = min(map(len, lines))
    stacked = np.array([line[:shortest] for line in lines])
    count = np.isfinite(stacked).sum(0)
    return np.divide(np.nansum(stacked, 0), count, out=np.full(shortest, np.nan), where=count > 0)


def _svg(figure: Figure) -> str:
    """Return a picture as an SVG file in base64, the same bytes for the same curves."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "yolo-distill"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return base64.b64encode(content.getvalue()).decode()
