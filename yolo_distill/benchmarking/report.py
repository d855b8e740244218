"""What was measured, as plain values for JSON, and what has to be said about it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolo_distill.benchmarking.backends import BACKENDS, Row
from yolo_distill.benchmarking.models import FOLDERS, Model
from yolo_distill.benchmarking.rounds import Arm

# Quartiles of per-round ratios further apart than this share of their median say that the machine was not quiet.
_NOISY = 0.1
# Boxes a picture further apart than this share, for one model by two backends, mean that they do not do the same work.
_SAME_WORK = 0.2
#: How the note begins that says which ratios are doubtful.
DOUBT = "the machine was not quiet"


def row_figures(
    row: Row, arms: Sequence[Arm], base: Sequence[Arm], process: Mapping[str, Any], accuracy: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the figures of one row.

    Args:
        row: which.
        arms: its arms that were measured to the end, one a number of threads.
        base: those of the row that all are compared with.
        process: as `measure_in_process` returned it.
        accuracy: of the model, if it was measured.
    """
    lower = next((arm.engine.precision for arm in arms if arm.engine), None)
    base_of = {arm.threads: arm for arm in base}
    found = [count for arm in arms[:1] for count in arm.found]
    return {
        "model": row.model.label,
        "backend": row.backend,
        # Only what is float in an int8 file can be computed in another precision.
        "precision": f"int8, {lower}" if lower and row.model.precision == "int8" else lower or row.model.precision,
        **process,
        # Measured in the file's own precision, so that it says nothing about a lower one.
        "map": None if lower or not accuracy else accuracy["map"],
        "boxes_per_picture": round(sum(found) / len(found), 3) if found else None,
        "threads": {str(arm.threads): arm_figures(arm, base_of.get(arm.threads)) for arm in arms},
    }


def arm_figures(arm: Arm, base: Arm | None) -> dict[str, Any]:
    """Return the figures of an arm: milliseconds, pictures per second, and the ratio of its latency to `base`'s."""
    whole, bare = list(itertools.chain(*arm.detections)), list(itertools.chain(*arm.networks))
    figures: dict[str, Any] = {
        "p50_ms": _percentiles(whole, 50)[0],
        "p95_ms": _percentiles(whole, 95)[0],
        "fps": round(1000 * len(whole) / sum(whole), 3),
        "network_p50_ms": _percentiles(bare, 50)[0],
        "network_p95_ms": _percentiles(bare, 95)[0],
        "detections": len(whole),
        "ratio": None,
    }
    if base is None:
        return figures
    ratios = _ratios(arm.detections, base.detections)
    low, middle, high = _percentiles(ratios, 25, 50, 75)
    return {
        **figures,
        "ratio": middle,
        "ratio_quartiles": [low, high],
        "ratio_noisy": high - low > _NOISY * middle,
        "ratio_undecided": arm is not base and low <= 1 <= high,
        "ratio_each_round": [round(ratio, 4) for ratio in ratios],
        "network_ratio": _percentiles(_ratios(arm.networks, base.networks), 50)[0],
    }


def _percentiles(values: Sequence[float], *percents: float) -> list[float]:
    return [round(value, 4) for value in np.percentile(values, percents).tolist()]


def _ratios(mine: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> list[float]:
    """Return, round by round, the median of `mine` divided by that of `base`.

    What disturbs a machine for seconds disturbs both sides of a round, and leaves their ratio alone.
    """
    return [float(np.median(a) / np.median(b)) for a, b in zip(mine, base, strict=True)]


def model_figures(model: Model, accuracy: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is known of a file."""
    return {
        "label": model.label,
        "path": str(model.path),
        "kind": model.kind,
        "imgsz": list(model.imgsz),
        "precision": model.precision,
        "bytes": model.size,
        "sha256": model.sha256,
        "accuracy": accuracy,
    }


def front_of(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names on the front of milliseconds and accuracy, fastest first: nothing else is as good in both."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def front_points(report: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return median milliseconds on the first number of threads and mAP of each row that has both, by its name."""
    count = str(report["settings"]["threads"][0])
    return {
        f"{row['model']} by {BACKENDS[row['backend']].title}": (row["threads"][count]["p50_ms"], row["map"])
        for row in report["rows"]
        if row["map"] is not None and count in row["threads"]
    }


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the tables has to know, one sentence each."""
    rows, models = report["rows"], report["models"]
    notes = [*report["left_out"], *(f"{one['name']} failed: {one['error']}" for one in report["failed"])]
    if rows and all(figures["ratio"] is None for row in rows for figures in row["threads"].values()):
        notes.append("no ratios: the first model, which the others would be compared with, failed")
    notes += _doubts(rows[1:])  # the first is what they are compared with
    cores = report["machine"]["usable_cores"]
    if too_many := [str(count) for count in report["settings"]["threads"] if count > cores]:
        notes.append(
            f"{', '.join(too_many)} threads share the {cores} core{'s' if cores != 1 else ''} there are for them"
        )
    if len({tuple(model["imgsz"]) for model in models}) > 1:
        sizes = ", ".join(f"{model['label']} {model['imgsz'][0]}x{model['imgsz'][1]}" for model in models)
        notes.append(f"the models take pictures of different sizes: {sizes}")
    kinds = {model["label"]: model["kind"] for model in models}
    if any(row["backend"] == "host" and kinds[row["model"]] == "pt" for row in rows):
        notes.append("ultralytics gives a .pt the smallest rectangle that holds the picture, a static file a square")
    notes += _different_work(rows) + _lower_precision(report)
    if len(points := front_points(report)) > 1:
        notes.append(f"on the front of time and mAP, fastest first: {', '.join(front_of(points))}")
    folders = [label for label, kind in kinds.items() if kind in FOLDERS]
    if report["settings"]["data"] and folders:
        notes.append(f"no mAP of {', '.join(folders)}: only .pt and .onnx are measured")
    return notes


def _doubts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cases = [
        (f"{row['model']} by {BACKENDS[row['backend']].title} ({threads} thr.)", figures)
        for row in rows
        for threads, figures in row["threads"].items()
        if figures["ratio"] is not None
    ]
    notes = []
    if noisy := [(name, figures["ratio_quartiles"]) for name, figures in cases if figures["ratio_noisy"]]:
        noisy.sort(key=lambda case: case[1][0] / case[1][1])
        name, (low, high) = noisy[0]
        notes.append(
            f"{DOUBT}: {len(noisy)} of {len(cases)} ratios are doubtful, the worst is {name}, half "
            f"of whose rounds lie outside {low:.2f} to {high:.2f}; end other work, or give more rounds= and seconds="
        )
    if undecided := [name for name, figures in cases if figures["ratio_undecided"]]:
        notes.append(f"not to be told apart from the first: {', '.join(undecided)}")
    return notes


def _lower_precision(report: Mapping[str, Any]) -> list[str]:
    kept = {model["label"]: model["precision"] for model in report["models"]}
    found: dict[tuple[str, str], list[str]] = {}
    for row in report["rows"]:
        if row["precision"] != kept[row["model"]]:
            found.setdefault((row["backend"], row["precision"]), []).append(row["model"])
    notes = []
    for (backend, precision), labels in found.items():
        fair = "; backends=openvino-fp32 does not" if backend == "openvino" else ""
        unknown = ", and what that does to mAP is not measured" if report["settings"]["data"] else ""
        notes.append(
            f"{BACKENDS[backend].title} computes {', '.join(labels)} in {precision}, which is not what the file says"
            f"{unknown}{fair}"
        )
    return notes


def _different_work(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    for label in dict.fromkeys(row["model"] for row in rows):
        first, *others = (row for row in rows if row["model"] == label)
        for row in others:
            here, there = row["boxes_per_picture"], first["boxes_per_picture"]
            if abs(here - there) > max(_SAME_WORK * max(here, there), 0.5):
                notes.append(
                    f"{label}: {BACKENDS[row['backend']].title} finds {here:.1f} boxes a picture, "
                    f"{BACKENDS[first['backend']].title} {there:.1f}; it may not read this file as it is meant"
                )
    return notes
