"""The tables of a comparison, as rows of text that Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_distill.comparison.arms import PLAIN, TEACHER
from yolo_distill.tables import NO_VALUE, Table


def tables_of(summary: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a comparison; those that have nothing to show are left out."""
    tables = [accuracy(summary), differences(summary), classes(summary), cost(summary)]
    return [table for table in tables if table.rows]


def accuracy(summary: Mapping[str, Any]) -> Table:
    """Return mAP50-95 of every run, with means."""
    split, other = _splits(summary)
    seeds = [str(seed) for seed in summary["seeds"]]
    missing = {(row["arm"], str(row["seed"])) for row in summary["missing"]}
    ends = any("one-to-one" in arm["figures"].get(split, {}) for arm in summary["arms"].values())
    header = ["arm", *(f"seed {seed}" for seed in seeds), "mean", "± between seeds", "mAP50"]
    rows = []
    if master := summary["teacher"]:
        found = master["figures"]
        mean = _pair(look_up(found, split, "one-to-many", "mAP50-95"), look_up(found, other, "one-to-many", "mAP50-95"))
        row = [TEACHER, *[""] * len(seeds), mean, "", _points(look_up(found, split, "one-to-many", "mAP50"))]
        rows.append([*row, *([_points(look_up(found, split, "one-to-one", "mAP50-95"))] if ends else [])])
    for label, arm in summary["arms"].items():

        def value(part: str | None, branch: str, metric: str, key: str, arm: Mapping[str, Any] = arm) -> Any:
            return look_up(arm["figures"], part, branch, metric, *key.split("."))

        cells = []
        for seed in seeds:
            here, there = (value(part, "one-to-many", "mAP50-95", f"each.{seed}") for part in (split, other))
            cells.append("missing" if (label, seed) in missing else _pair(here, there))
        mean = _pair(*(value(part, "one-to-many", "mAP50-95", "mean") for part in (split, other)))
        row = [label, *cells, mean, _points(value(split, "one-to-many", "mAP50-95", "deviation"))]
        row.append(_points(value(split, "one-to-many", "mAP50", "mean")))
        rows.append([*row, *([_points(value(split, "one-to-one", "mAP50-95", "mean"))] if ends else [])])
    title = f"mAP50-95 on {split}" + (f" (on {other}, where the best epoch was chosen)" if other else "")
    labels = [row[0] for row in rows]
    strong = tuple(labels.index(label) for label in (summary["headline"]["arm"],) if label in labels)
    return Table(title, [*header, *(["one-to-one"] if ends else [])], rows, strong=strong)


def differences(summary: Mapping[str, Any]) -> Table:
    """Return paired differences, and what may be said of each."""
    split, _ = _splits(summary)
    seeds = summary["seeds"]
    found = [row for row in summary["differences"] if row["split"] == split]
    main = [row for row in found if (row["branch"], row["metric"]) == ("one-to-many", "mAP50-95")]
    ends = {(r["arm"], r["base"]): r for r in found if (r["branch"], r["metric"]) == ("one-to-one", "mAP50-95")}
    rows = []
    for row in main:
        some = "" if len(row["each"]) == len(seeds) else f" (seed {', '.join(row['each'])})"
        name = f"{row['arm']} minus {row['base']}{some}"
        cells = [name, _interval(row), _said(row), f"{row['ahead']} of {len(row['each'])}"]
        lead = row["gap_recovered"]
        cells += [NO_VALUE if lead is None else f"{round(lead, 2) + 0:.0%}"]  # + 0: no minus before a nought
        cells += [_interval(ends.get((row["arm"], row["base"])))] if ends else []
        rows.append(cells)
    header = ["difference", "mean [95 % interval]", "so it is", "ahead in", "of the teacher's lead"]
    header += ["one-to-one"] if ends else []
    strong = tuple(place for place, row in enumerate(main) if row["arm"] == summary["headline"]["arm"])[:1]
    return Table(f"Paired differences in mAP50-95 on {split}", header, rows, strong=strong)


def classes(summary: Mapping[str, Any]) -> Table:
    """Return AP50-95 of each class."""
    labels = [label for label, arm in summary["arms"].items() if arm["figures"]]
    rows = [
        [
            row["name"],
            str(row["boxes"] or 0),
            _points(row["teacher"]),
            *(_points(row["arms"][label]) for label in labels),
        ]
        for row in summary["classes"]
        if labels
    ]
    split, _ = _splits(summary)
    return Table(f"AP50-95 of each class on {split}, mean over seeds", ["class", "boxes", TEACHER, *labels], rows)


def cost(summary: Mapping[str, Any]) -> Table:
    """Return what the models and their training cost."""
    rows = []
    costs = summary.get("cost") or {}
    teacher = summary["teacher"] or {}
    for label in [TEACHER, *summary["arms"]]:
        model, spent = costs.get(label, {}), teacher if label == TEACHER else summary["times"].get(label, {})
        if not model and spent.get("seconds") is None:
            continue
        ratio = spent.get("epoch_ratio")
        rows.append(
            [
                label,
                f"{model['parameters']:,}" if model else NO_VALUE,
                f"{model['gflops']:.2f}" if model else NO_VALUE,
                f"{model['ms']:.1f}" if model else NO_VALUE,
                _epochs(teacher if label == TEACHER else summary["arms"].get(label, {})),
                _minutes(spent.get("seconds")),
                _minutes(spent.get("cpu_seconds")),
                NO_VALUE if ratio is None or label == PLAIN else f"{ratio:.2f}",
            ]
        )
    threads = sorted({model["threads"] for model in costs.values() if "threads" in model})
    timed = f"CPU, {' or '.join(map(str, threads))} thread(s)" if threads else "CPU"
    header = ["", "parameters", "GFLOPs", f"ms a picture ({timed})", "epochs", "minutes a run"]
    return Table("Cost", [*header, "of processor time", "an epoch, times plain's"], rows)


def _splits(summary: Mapping[str, Any]) -> tuple[str, str | None]:
    split = summary["headline"]["split"]
    return split, "val" if split != "val" else None


def look_up(found: Mapping[str, Any], part: str | None, *keys: str) -> Any:
    """Return a figure of a summary by split, branch, metric and so on; None where there is none."""
    value: Any = found.get(part or "")
    for key in keys:
        value = (value or {}).get(key)
    return value


def _said(row: Mapping[str, Any]) -> str:
    if row["interval"] is None:
        return "one seed"
    low, high = row["interval"]
    return "not to be seen" if low <= 0 <= high else "ahead" if row["mean"] > 0 else "behind"


def _interval(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NO_VALUE
    mean = f"{100 * row['mean']:+.1f}"
    if row["interval"] is None:
        return mean
    low, high = (100 * value for value in row["interval"])
    return f"{mean} [{low:+.1f}, {high:+.1f}]"


def _points(value: float | None) -> str:
    return NO_VALUE if value is None else f"{100 * value:.1f}"


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
