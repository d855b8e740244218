"""What is kept of a finished run: one JSON record that says what was run, how it went and what came out."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.comparison.arms import PLAIN, TEACHER
from yolo_distill.comparison.run_monitor import read_lines, source_digest
from yolo_distill.comparison.runs import EPOCHS, Job
from yolo_distill.data.dataset import check_data
from yolo_distill.engine.teacher_cost import read_cost
from yolo_distill.engine.teacher_quality import look
from yolo_distill.engine.teacher_setup import fits_labels, measure_teachers
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.machine import cpu_name, versions
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import rounded_imgsz
from yolo_distill.recipe import USUAL, make_recipe
from yolo_distill.teachers.loading import Teachers

FORMAT = 1

#: Settings that say where a run lies, not what it is.
_PLACES = {"project", "name", "save_dir", "exist_ok", "data", "seed"}
#: Of a measurement, what is kept.
_FIGURES = ("task", "map", "map50", "precision", "recall", "pictures", "boxes", "classes")


def make_record(job: Job, best: Path) -> dict[str, Any]:
    """Measure a trained run by its best weights and return its record: plain values without absolute paths."""
    ours = best.is_relative_to(job.path.parent)  # else a teacher that came with its weights
    # The host wrote its curve beside the weights, also of a teacher in a folder of its own.
    curve = read_curve((best.parent.parent if job.kind == TEACHER and ours else job.path) / "results.csv")
    opened: dict[str, Any] = {"trust": job.trust, "role": job.kind}
    return {
        "format": FORMAT,
        "arm": job.label,
        "kind": job.kind,
        "seed": job.seed,
        "student": job.names["student"],
        "teacher": job.names["teacher"] if job.kind != PLAIN else None,
        "settings": {
            **{key: _without_folder(value) for key, value in job.host.items() if key not in _PLACES},
            "data": job.names["data"],
        },
        "recipe": recipe_of(job),
        "precision": job.precision,
        "pace": read_cost(job.path),
        "epochs": job.epochs if curve else None,  # None: a teacher that came with its weights
        "epochs_done": len(curve.get("epoch", ())) if curve else None,  # fewer where it was stopped early
        "curve": {key: values for key, values in curve.items() if not key.startswith(("share/", "cosine/"))},
        "shares": {key.removeprefix("share/"): values for key, values in curve.items() if key.startswith("share/")},
        **_history(read_lines(job.path / EPOCHS)),
        **(_measure_teacher(job, best) if job.kind == TEACHER else _measure_yolo(job, load_detector(best, **opened))),
        # Beside the comparison's plan, or where they were given.
        "weights": best.relative_to(job.path.parent).as_posix() if ours else None,
        "machine": {"device": device_name(job.host.get("device")), "cpu": cpu_name(), "threads": job.threads},
        "date": time.strftime("%Y-%m-%d"),
    }


def _history(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the run's monitor wrote, and the versions of what it was run with."""
    parts = [line for line in lines if "start" in line]
    epochs = [line for line in lines if "epoch" in line]
    sources = list(dict.fromkeys(line["source"] for line in parts if "source" in line))
    return {
        "parts": len(parts),  # more than one: it was interrupted
        "sources": sources,  # more than one: and the code had changed
        # Of the first part: whoever goes on opens files again, which says nothing about the arm.
        "setup_seconds": _total(parts[:1], "setup_seconds"),
        "setup_cpu_seconds": _total(parts[:1], "setup_cpu_seconds"),
        "train_seconds": _total(epochs, "seconds"),
        "cpu_seconds": _total(epochs, "cpu_seconds"),
        "epoch_seconds": [line["seconds"] for line in epochs],
        "epoch_cpu_seconds": [line["cpu_seconds"] for line in epochs],
        "initial_weights": next((line["weights"] for line in parts if "weights" in line), None),
        "batch": epochs[-1].get("batch") if epochs else None,  # not as asked for where memory ran out
        "pictures": _by_epoch(epochs, "pictures"),
        "versions": {**versions(), "source": sources[-1] if sources else source_digest()},  # it may be another by now
    }


def recipe_of(job: Job) -> dict[str, Any] | None:
    """Return the recipe of a run of ours, with the gains that it left open as the run settled them."""
    if not job.recipe:
        return None
    recipe = {key: _without_folder(value) for key, value in job.recipe.items()}
    if (settled := job.path / "recipe.yaml").is_file():
        found = yaml.safe_load(settled.read_text(encoding="utf-8"))
        recipe |= {name: found[name] for name in USUAL}
    return recipe


def _measure_yolo(job: Job, model: DetectionModel) -> dict[str, Any]:
    """Return the figures by split, and those of the one-to-one branch for a model that has one."""
    where: dict[str, Any] = {"imgsz": rounded_imgsz(model, job.imgsz), "device": job.host.get("device")}

    def figures(nms: bool | None) -> dict[str, Any]:
        return {split: _kept(evaluate(model, job.data, split=split, nms=nms, **where)) for split in job.splits}

    two = getattr(model.model[-1], "one2one_cv2", None) is not None
    return {**figures(None), "one_to_one": figures(False) if two else None}


def _measure_teacher(job: Job, best: Path) -> dict[str, Any]:
    """Return the figures of a teacher of any kind, and how good it is on some pictures of train and of val.

    It may know other classes than the data has, and can't be measured then; its students can.
    """
    recipe = make_recipe({"teacher": str(best), "trust": job.trust, **job.reading})
    teachers = Teachers.of(recipe)
    data = check_data(job.data, ("train", "val"))

    def measure(file: str | Path, split: str) -> dict[str, Any]:
        where: dict[str, Any] = {"split": split, "imgsz": job.imgsz, "device": job.host.get("device")}
        return measure_teachers(recipe, teachers, file, **where)

    model = teachers.model(teachers.members[0]) if teachers.is_one_yolo else None
    # One whose task and classes are the data's, in their order, has branches that can be told apart.
    same = model is not None and _words(model.names) == _words(data["names"]) and fits_labels(model, job.data, "val")
    if model is not None and same and not job.reading.keys() - {"match"}:
        found = _measure_yolo(job, model)
    else:
        found = {"one_to_one": None}
        try:
            found |= {split: _kept(measure(job.data, split)) for split in job.splits}
        except RequestError as error:
            found["not_measured"] = str(error).replace(str(best), best.name)
    try:
        found["look"] = look(lambda file, split: float(measure(file, split)["map"]), data)
    except RequestError:
        found["look"] = None  # `not_measured` says why
    return found


def _words(names: Mapping[int, Any]) -> list[str]:
    return list(map(str, names.values()))


def _kept(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in _FIGURES}


def read_curve(file: Path) -> dict[str, list[float | None]]:
    """Return the columns of a results.csv; of an epoch that is there twice, after a kill, the later row."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        rows = {row["epoch"]: row for row in csv.DictReader(stream)}
    columns = [column for column in next(iter(rows.values()), {}) if column and column != "time"]
    return {column: [_number(row[column]) for row in rows.values()] for column in columns}


def write_json(value: Mapping[str, Any]) -> bytes:
    """Return a record as a JSON file's content; a name that is no UTF-8 keeps its bytes as JSON escapes."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def device_name(device: Any) -> str:
    """Return `cpu`, or what the GPU is called."""
    if device in {"cpu", "mps"} or not torch.cuda.is_available():
        return str(device or "cpu")
    index = str(device).split(":")[-1]
    return torch.cuda.get_device_name(int(index) if index.isdigit() else torch.cuda.current_device())


def _without_folder(value: Any) -> Any:
    """Return a setting without where a file lies; several files stand behind each other with commas."""
    if not isinstance(value, str):
        return value
    return ",".join(Path(part).name if Path(part.strip()).is_absolute() else part for part in value.split(","))


def _by_epoch(lines: list[dict[str, Any]], key: str) -> list[Any]:
    """Return a value of each epoch by its place; None for a line that a power cut took."""
    found = {line["epoch"]: line[key] for line in lines}
    return [found.get(epoch) for epoch in range(1, max(found, default=0) + 1)]


def _total(lines: list[dict[str, Any]], key: str) -> float:
    return round(sum(line[key] for line in lines), 2)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None  # JSON knows no nan
