"""Curves over the epochs: the mean of an arm as a thick line, each of its seeds as a thin one."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Line = Sequence[float | None]


@dataclass(frozen=True)
class Theme:
    """Colours of a chart.

    Attributes:
        text: of the numbers at the axes.
        grid: of the lines behind.
        lines: of the curves, one after the other.
    """

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

_INCHES = (10, 4.4)


@dataclass(frozen=True)
class Curve:
    """The lines of one name.

    Attributes:
        name: as the legend has it.
        colour: number of its colour in the theme.
        dashes: number of its dashes.
        lines: one a run, each with a value an epoch.
    """

    name: str
    colour: int
    dashes: int
    lines: list[Line]


@dataclass(frozen=True)
class Chart:
    """A chart for a page.

    Attributes:
        title: what the vertical axis shows.
        curves: in the order of the legend.
        light: an SVG file in base64.
        dark: the same for a dark page.
    """

    title: str
    curves: list[Curve]
    light: str
    dark: str


def accuracy_chart(summary: Mapping[str, Any]) -> Chart | None:
    """Return the curves of mAP50-95 on val, or None where there are none."""
    series = {label: _lines(summary, label, "metrics/mAP50-95(B)", 100.0) for label in summary["arms"]}
    return chart(series, "mAP50-95 on val")


def share_chart(summary: Mapping[str, Any]) -> Chart | None:
    """Return the gradient of each term at the neck, by the task's, of the arm that the verdict is about."""
    records = [record for record in summary["records"] if record["arm"] == summary["headline"]["arm"]]
    terms = list(dict.fromkeys(term for record in records for term in record["shares"]))
    series = {term: [record["shares"][term] for record in records if term in record["shares"]] for term in terms}
    return chart(series, "gradient at the neck, by the task's")


def chart(series: Mapping[str, Sequence[Line]], title: str) -> Chart | None:
    """Return a chart, or None where there is no value.

    Args:
        series: lines by name, one value an epoch, from epoch 1; None where there is no value.
        title: what the vertical axis shows.
    """
    colours = len(LIGHT.lines)
    curves = [
        Curve(name, place % colours, place // colours % len(DASHES), kept)
        for place, (name, lines) in enumerate(series.items())
        if (kept := [line for line in lines if any(value is not None for value in line)])
    ]
    if not curves:
        return None
    light, dark = (_svg(draw(curves, theme)) for theme in (LIGHT, DARK))
    return Chart(title, curves, light, dark)


def draw(curves: Sequence[Curve], theme: Theme) -> Figure:
    """Return the picture, without names: the page has them below it, where long ones wrap."""
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        look: dict[str, Any] = {"color": theme.lines[curve.colour], "linestyle": DASHES[curve.dashes]}
        for line in curve.lines if len(curve.lines) > 1 else []:
            axes.plot(*_points(line), **look, linewidth=1, alpha=0.4, marker=_marker(line))
        mean = _mean(curve.lines)
        axes.plot(*_points(mean), **look, linewidth=2.4, marker=_marker(mean), zorder=3)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(length=0, labelsize=12, colors=theme.text)
    axes.grid(axis="y", color=theme.grid, linewidth=1)
    axes.spines[:].set_visible(False)
    return figure


def _svg(figure: Figure) -> str:
    """Return a picture as an SVG file in base64, the same bytes for the same curves."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "yolo-distill"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return base64.b64encode(content.getvalue()).decode()


def _points(line: Line) -> tuple[list[int], list[float]]:
    """Return epochs and values, without those that have none."""
    found = [(epoch, value) for epoch, value in enumerate(line, 1) if value is not None]
    return [epoch for epoch, _ in found], [value for _, value in found]


def _marker(line: Line) -> str:
    """Return the mark of a line of one point, which is not seen otherwise."""
    return "o" if len(_points(line)[0]) == 1 else ""


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
