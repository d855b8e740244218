"""The picture of a benchmark: accuracy against latency or, without accuracy, latency alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from yolo_distill.benchmarking.backends import BACKENDS

ACCURACY, LATENCY = "accuracy_latency.png", "latency.png"
_MARKS = {"ours": "o", "host": "s", "openvino": "^", "openvino-fp32": "v", "ncnn": "D"}
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
        axes.set_xlabel(said)
    else:
        _bars(axes, rows, count)
        axes.set_xlabel(f"{said}: median, line to the 95th percentile")
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return ACCURACY if measured else LATENCY, content.getvalue()


def _scatter(axes: Any, rows: Sequence[Mapping[str, Any]], count: str) -> None:
    """Draw a mark a row: its form is the backend, its colour the model; both are named beside the axes."""
    colours = {label: f"C{place % 10}" for place, label in enumerate(dict.fromkeys(row["model"] for row in rows))}
    for row in rows:
        axes.scatter(
            [row["threads"][count]["p50_ms"]], [row["map"]],
            marker=_MARKS[row["backend"]], s=80, color=colours[row["model"]], alpha=0.8, linewidths=0,
        )  # fmt: skip
    for label, colour in colours.items():
        axes.scatter([], [], marker="_", s=200, linewidths=5, color=colour, label=label)
    for backend in dict.fromkeys(row["backend"] for row in rows):
        axes.scatter([], [], marker=_MARKS[backend], color="grey", label=BACKENDS[backend].title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_ylabel("mAP50-95")
    values = [row["map"] for row in rows]
    # A tenth of a point is not to look like a difference.
    middle, half = (max(values) + min(values)) / 2, max(0.6 * (max(values) - min(values)), _LEAST_POINTS / 2)
    axes.set_ylim(middle - half, middle + half)
    axes.set_xlim(0, 1.1 * max(row["threads"][count]["p50_ms"] for row in rows))
    axes.grid(alpha=0.3)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], count: str) -> None:
    names = [f"{row['model']}, {BACKENDS[row['backend']].title}" for row in rows]
    middle = [row["threads"][count]["p50_ms"] for row in rows]
    above = [row["threads"][count]["p95_ms"] - p50 for row, p50 in zip(rows, middle, strict=True)]
    bars = axes.barh(range(len(rows)), middle, xerr=[[0] * len(rows), above], color="C0", ecolor="grey")
    axes.bar_label(bars, [f" {value:.1f}" for value in middle], label_type="center", color="white")
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
