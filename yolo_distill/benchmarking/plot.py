"""The picture of a benchmark: accuracy against latency or, without accuracy, latency alone."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from yolo_distill.benchmarking.backends import BACKENDS
from yolo_distill.benchmarking.report import DOUBT, front_of, front_points

ACCURACY, LATENCY = "accuracy_latency.png", "latency.png"
_MARKS = {"ours": "o", "host": "s", "openvino": "^", "openvino-fp32": "v", "ncnn": "D"}
_NAMED = 3  # models in the title
_LETTERS = 120  # of a line of small print
_LEAST_POINTS = 4  # of mAP that the axis spans


def picture_of(report: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Return name and content of the PNG; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    count = str(report["settings"]["threads"][0])
    rows = [row for row in report["rows"] if count in row["threads"]]
    measured = [row for row in rows if row["map"] is not None]
    figure: Any = Figure(figsize=(8, 5) if measured else (8, 1.2 + 0.5 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    said = f"ms a picture, whole detection, {count} thread{'s' if count != '1' else ''}"
    if measured:
        _scatter(axes, measured, count)
        points = front_points(report)
        front = [points[name] for name in front_of(points)]
        axes.plot(*zip(*front, strict=True), color="grey", linewidth=1, zorder=0, label="front")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        _bars(axes, rows, count)
    axes.set_xlabel(f"{said}: median, line to the 95th percentile")
    figure.suptitle(_title(report), fontsize=13)
    figure.supxlabel(_small_print(report), fontsize=8, color="grey")
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return ACCURACY if measured else LATENCY, content.getvalue()


def _title(report: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(row["model"] for row in report["rows"]))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}, side by side"


def _small_print(report: Mapping[str, Any]) -> str:
    """Return on what it was measured, and why times may be wrong."""
    found = report["machine"]
    where = f"{found['cpu']}, {found['usable_cores']} of {found['cores']} cores, {report['date'][:10]}"
    doubts = [note for note in report["notes"] if note.startswith(DOUBT)]
    return "\n".join([where, *(textwrap.fill(note, _LETTERS) for note in doubts)])


def _scatter(axes: Any, rows: Sequence[Mapping[str, Any]], count: str) -> None:
    """Draw a mark a row: its form is the backend, its colour the model; both are named beside the axes."""
    colours = {label: f"C{place % 10}" for place, label in enumerate(dict.fromkeys(row["model"] for row in rows))}
    for row in rows:
        p50, p95 = (row["threads"][count][key] for key in ("p50_ms", "p95_ms"))
        axes.plot([p50, p95], [row["map"]] * 2, color=colours[row["model"]], alpha=0.5)
        axes.scatter(
            [row["threads"][count]["p50_ms"]], [row["map"]],
            marker=_MARKS[row["backend"]], s=80, color=colours[row["model"]], alpha=0.8, linewidths=0,
        )  # fmt: skip
    for label, colour in colours.items():
        axes.scatter([], [], marker="_", s=200, linewidths=5, color=colour, label=label)
    for backend in dict.fromkeys(row["backend"] for row in rows):
        axes.scatter([], [], marker=_MARKS[backend], color="grey", label=BACKENDS[backend].title)
    axes.set_ylabel("mAP50-95")
    values = [row["map"] for row in rows]
    # A tenth of a point is not to look like a difference.
    middle, half = (max(values) + min(values)) / 2, max(0.6 * (max(values) - min(values)), _LEAST_POINTS / 2)
    axes.set_ylim(middle - half, middle + half)
    axes.set_xlim(0, 1.1 * max(row["threads"][count]["p95_ms"] for row in rows))
    axes.grid(alpha=0.3)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], count: str) -> None:
    names = [f"{row['model']}, {BACKENDS[row['backend']].title}" for row in rows]
    middle = [row["threads"][count]["p50_ms"] for row in rows]
    above = [row["threads"][count]["p95_ms"] - p50 for row, p50 in zip(rows, middle, strict=True)]
    bars = axes.barh(range(len(rows)), middle, xerr=[[0] * len(rows), above], color="C0", ecolor="grey")
    axes.bar_label(bars, [f" {value:.1f}" for value in middle], label_type="center", color="white")
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
