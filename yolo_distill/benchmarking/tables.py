"""The tables of a benchmark, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_distill.benchmarking.backends import BACKENDS
from yolo_distill.tables import NO_VALUE, Table


def tables_of(report: Mapping[str, Any]) -> list[Table]:
    """Return the tables: what each row takes and gives, and latency for each number of threads."""
    return [_overview(report), *_by_threads(report)]


def markdown_page(report: Mapping[str, Any]) -> str:
    """Return tables, notes, and what was measured on."""
    parts = [table.markdown() for table in tables_of(report)]
    if report["notes"]:
        parts.append("\n".join(f"- {note}" for note in report["notes"]))
    parts.append(setting_line(report))
    return "\n\n".join(parts) + "\n"


def setting_line(report: Mapping[str, Any]) -> str:
    """Return machine, versions, pictures and date in one line."""
    machine, settings = report["machine"], report["settings"]
    known = report["versions"]
    shown = ", ".join(f"{name} {known[name]}" for name in known if name not in {"yolo_distill", "numpy"})
    return (
        f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores; "
        f"{report['pictures']['count']} pictures ({report['pictures']['source']}), {settings['rounds']} rounds, "
        f"conf {settings['conf']:g}, device {settings['device']}; {shown}; {report['date'][:10]}"
    )


def milliseconds(value: float) -> str:
    """Return milliseconds with about three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _overview(report: Mapping[str, Any]) -> Table:
    counts = [str(count) for count in report["settings"]["threads"]]
    first = counts[0]
    header = ["model", "run by", "precision", "px", "MB", "p50 ms", "p95 ms", "network ms", "times the first"]
    header += [f"FPS, {count} thr." for count in counts] + ["peak MB", "ready ms"]
    with_map = bool(report["settings"]["data"])
    models = {model["label"]: model for model in report["models"]}
    rows = []
    for row in report["rows"]:
        model, figures = models[row["model"]], row["threads"].get(first)
        cells = [*_names(row), row["precision"], _sides(model["imgsz"]), f"{model['bytes'] / 1e6:.1f}"]
        if figures:
            cells += [milliseconds(figures[key]) for key in ("p50_ms", "p95_ms", "network_p50_ms")] + [_ratio(figures)]
        else:
            cells += [NO_VALUE] * 4
        cells += [f"{row['threads'][count]['fps']:.1f}" if count in row["threads"] else NO_VALUE for count in counts]
        peak, ready = row.get("memory_bytes"), row.get("ready_ms")
        cells += [NO_VALUE if peak is None else f"{peak / 1e6:.0f}", NO_VALUE if ready is None else f"{ready:.0f}"]
        if with_map:
            cells.append(NO_VALUE if row["map"] is None else f"{row['map']:.1f}")
        rows.append(cells)
    title = f"One picture at a time; latency on {first} thread{'s' if first != '1' else ''}"
    return Table(title, [*header, *(["mAP50-95"] if with_map else [])], rows, left=3)


def _by_threads(report: Mapping[str, Any]) -> list[Table]:
    counts = [str(count) for count in report["settings"]["threads"]]
    if len(counts) < 2:
        return []
    header = ["model", "run by"]
    for count in counts:
        header += [f"p50 ms, {count} thr.", "times the first"]
    rows = []
    for row in report["rows"]:
        cells = _names(row)
        for count in counts:
            figures = row["threads"].get(count)
            cells += [milliseconds(figures["p50_ms"]), _ratio(figures)] if figures else [NO_VALUE, NO_VALUE]
        rows.append(cells)
    return [Table("Latency by threads", header, rows, left=2)]


def _names(row: Mapping[str, Any]) -> list[str]:
    return [row["model"], BACKENDS[row["backend"]].title]


def _sides(imgsz: Sequence[int]) -> str:
    height, width = imgsz
    return str(height) if height == width else f"{height}x{width}"


def _ratio(figures: Mapping[str, Any]) -> str:
    """Return the ratio with the quartiles of the rounds; the first row is 1 by what it is."""
    if figures["ratio"] is None:
        return NO_VALUE
    low, high = figures["ratio_quartiles"]
    return "1" if low == high == figures["ratio"] == 1 else f"{figures['ratio']:.2f} [{low:.2f}, {high:.2f}]"
