"""The tables of a comparison, as rows of text that Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_distill.comparison.arms import PLAIN, TEACHER
from yolo_distill.tables import NO_VALUE, Table

_DENSE, _SINGLE = ("one-to-many", "mAP50-95"), ("one-to-one", "mAP50-95")


def tables_of(summary: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a comparison; those that have nothing to show are left out."""
    tables = [accuracy(summary), differences(summary), classes(summary), cost(summary)]
    return [table for table in tables if table.rows]


def accuracy(summary: Mapping[str, Any]) -> Table:
    """Return mAP50-95 of every run, with means."""
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    other = "val" if split != "val" else None
    seeds = [str(seed) for seed in summary["seeds"]]
    missing = {(row["arm"], str(row["seed"])) for row in summary["missing"]}
    ends = any("one-to-one" in arm["figures"].get(split, {}) for arm in summary["arms"].values())

    def row(label: str, found: Mapping[str, Any], cells: list[str], *mean: str) -> list[str]:
        deviation = look_up(found, split, *_DENSE, "deviation") if mean else None
        return [
            label,
            _pair(*(look_up(found, part, *_DENSE, *mean) for part in (split, other))),
            _points(deviation) if mean else "",
            *cells,
            _points(look_up(found, split, "one-to-many", "mAP50", *mean)),
            *([_points(look_up(found, split, *_SINGLE, *mean))] if ends else []),
        ]

    rows = []
    if master := summary["teacher"]:
        rows.append(row(TEACHER, master["figures"], [""] * len(seeds)))
    for label, arm in summary["arms"].items():
        figures = arm["figures"]
        each = {seed: [look_up(figures, part, *_DENSE, "each", seed) for part in (split, other)] for seed in seeds}
        cells = ["missing" if (label, seed) in missing else _pair(*each[seed]) for seed in seeds]
        rows.append(row(label, figures, cells, "mean"))
    title = f"{metric} on {split}" + (f" (on {other}, where the best epoch was chosen)" if other else "")
    header = ["arm", "mean", "± between seeds", *(f"seed {seed}" for seed in seeds), "mAP50"]
    strong = tuple(number for number, line in enumerate(rows) if line[0] == summary["headline"]["arm"])
    return Table(title, [*header, *(["one-to-one"] if ends else [])], rows, strong=strong)


def differences(summary: Mapping[str, Any]) -> Table:
    """Return paired differences, and what may be said of each."""
    split = summary["headline"]["split"]
    found = [row for row in summary["differences"] if row["split"] == split]
    main = [row for row in found if (row["branch"], row["metric"]) == _DENSE]
    ends = {(row["arm"], row["base"]): row for row in found if (row["branch"], row["metric"]) == _SINGLE}
    rows = []
    for row in main:
        some = "" if len(row["each"]) == len(summary["seeds"]) else f" (seed {', '.join(row['each'])})"
        name = f"{row['arm']} minus {row['base']}{some}"
        lead = row["gap_recovered"]
        recovered = NO_VALUE if lead is None else f"{round(lead, 2) + 0:.0%}"  # + 0: no minus before a nought
        cells = [name, _interval(row), _said(row), f"{row['ahead']} of {len(row['each'])}", recovered]
        rows.append([*cells, *([_interval(ends.get((row["arm"], row["base"])))] if ends else [])])
    header = ["difference", "mean [95 % interval]", "so it is", "ahead in", "of the teacher's lead"]
    strong = tuple(number for number, row in enumerate(main) if row["arm"] == summary["headline"]["arm"])[:1]
    title = f"Paired differences in {summary['headline']['metric']} on {split}"
    return Table(title, [*header, *(["one-to-one"] if ends else [])], rows, strong=strong)


def classes(summary: Mapping[str, Any]) -> Table:
    """Return AP50-95 of each class."""
    labels = [label for label, arm in summary["arms"].items() if arm["figures"]]
    rows = [
        [row["name"], str(row["boxes"] or 0), *map(_points, [row["teacher"], *(row["arms"][one] for one in labels)])]
        for row in (summary["classes"] if labels else [])
    ]
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    title = f"{metric.removeprefix('m')} of each class on {split}, mean over seeds"
    return Table(title, ["class", "boxes", TEACHER, *labels], rows)


def cost(summary: Mapping[str, Any]) -> Table:
    """Return what the models and their training cost."""
    rows = []
    costs = summary.get("cost") or {}
    teacher = summary["teacher"] or {}
    for label in [TEACHER, *summary["arms"]]:
        model, spent = costs.get(label), teacher if label == TEACHER else summary["times"].get(label, {})
        if not model and spent.get("seconds") is None:
            continue
        ratio = spent.get("epoch_ratio")
        size = [f"{model['parameters']:,}", f"{model['gflops']:.2f}", f"{model['ms']:.1f}"] if model else [NO_VALUE] * 3
        rows.append(
            [
                label,
                *size,
                _epochs(teacher if label == TEACHER else summary["arms"].get(label, {})),
                _minutes(spent.get("seconds")),
                _minutes(spent.get("cpu_seconds")),
                NO_VALUE if ratio is None or label == PLAIN else f"{ratio:.2f}",
            ]
        )
    threads = sorted({model["threads"] for model in costs.values() if "threads" in model})
    timed = f" (ms on the CPU, threads: {' or '.join(map(str, threads))})" if threads else ""
    header = ["arm", "parameters", "GFLOPs", "ms a picture", "epochs", "minutes a run"]
    return Table(f"Cost{timed}", [*header, "of processor time", "an epoch, times plain's"], rows)


def look_up(found: Mapping[str, Any], part: str | None, *keys: str) -> Any:
    """Return a figure of a summary by split, branch, metric and so on; None where there is none."""
    value: Any = found.get(part or "")
    for key in keys:
        value = (value or {}).get(key)
    return value


def _said(row: Mapping[str, Any]) -> str:
    if row["interval"] is None:
        return "one seed" if len(row["each"]) == 1 else "all alike"
    low, high = row["interval"]
    return "not to be seen" if low <= 0 <= high else "ahead" if row["mean"] > 0 else "behind"


def _interval(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NO_VALUE
    span = " [{:+.1f}, {:+.1f}]".format(*row["interval"]) if row["interval"] else ""
    return f"{round(row['mean'], 1) + 0:+.1f}{span}"  # + 0: no minus before a nought


def _points(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.1f}"


def _pair(here: float | None, there: float | None) -> str:
    return _points(here) + ("" if there is None else f" ({_points(there)})")


def _epochs(arm: Mapping[str, Any]) -> str:
    """Return the epochs of an arm's runs, and of those that were stopped early how many they had."""
    if not arm.get("epochs"):
        return NO_VALUE
    done = sorted({value for value in arm["epochs_done"].values() if value})
    if done in ([], [arm["epochs"]]):
        return str(arm["epochs"])
    return f"{' to '.join(map(str, dict.fromkeys((done[0], done[-1]))))} of {arm['epochs']}"


def _minutes(seconds: float | None) -> str:
    return NO_VALUE if seconds is None else f"{seconds / 60:.1f}"
