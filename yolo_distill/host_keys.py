"""The names of Ultralytics' settings, without its import, which takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from yolo_distill.errors import RequestError, did_you_mean

_NOWHERE = {
    "model": "the student is given as student=, the teacher as teacher=",
    "weights": "the student is given as student=, the teacher as teacher=",
    "mode": "this command trains",
    "cfg": "settings can stand in a recipe, recipe=mine.yaml",
}
#: Settings that a distillation run gives another meaning or none.
NOT_IN_TRAIN = {
    **_NOWHERE,
    "distill_model": "that is Ultralytics' own distillation; the teacher is given as teacher=",
    "dis": "that is Ultralytics' own distillation; its loss is mimic= here, as recipe=host has it",
    "quantize": "quantization-aware checkpoints can't be resumed, measured or exported here",
}
#: Settings that have no place in a comparison, and why.
NOT_IN_COMPARE = {
    **_NOWHERE,
    "distill_model": "that is the arm host",
    "dis": "it belongs to the arm host: arms=plain,host@dis=2",
    "task": "the student's file says it",
    "quantize": "quantization-aware checkpoints can't be resumed or measured here",
    "project": "the folder is given as out=",
    "name": "runs are named after arm and seed",
    "save_dir": "the folder is given as out=",
    "exist_ok": "runs are found again by arm and seed",
    "resume": "the same command goes on with what is unfinished",
    "save": "checkpoints are what a run goes on from",
    "split": "the best epoch is chosen on val, and test is measured once",
    "seed": "give seeds=0,1,2",
    "time": "runs that end by the clock can't be compared; give epochs=, or budget=equal-time",
    "single_cls": "give a data set with one class",
    "classes": "give a data set of these classes",
}


@cache
def host_defaults() -> Mapping[str, Any]:
    """Return the settings with their defaults; none where Ultralytics is not installed, which whoever imports it says.

    Relies on: `ultralytics/cfg/default.yaml` names them all, and finding the package does not import it.
    """
    found = find_spec("ultralytics")
    if found is None or found.origin is None:
        return {}
    file = Path(found.origin).parent / "cfg" / "default.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


#: What everyone calls an export format that the host calls otherwise.
FORMAT_ALIASES = {"tflite": "litert", "tensorrt": "engine"}


@cache
def host_formats() -> Mapping[str, tuple[str, ...]]:
    """Return the words that `format=` of Ultralytics' exporter takes but `onnx`, and the settings of each.

    Relies on: `export_formats` in its `engine/exporter.py` holds them in a list of literals, word and settings in the
    second and sixth place. None where Ultralytics is not installed, or has them otherwise: then its exporter is asked.
    """
    found = find_spec("ultralytics")
    if found is None or found.origin is None:
        return {}
    source = ast.parse((Path(found.origin).parent / "engine" / "exporter.py").read_text(encoding="utf-8"))
    made = (one for one in source.body if isinstance(one, ast.FunctionDef) and one.name == "export_formats")
    lists = (one for function in made for one in ast.walk(function) if isinstance(one, ast.List))
    try:
        return {row[1]: tuple(row[5]) for row in ast.literal_eval(next(lists)) if row[1] not in {"-", "onnx"}}
    except (StopIteration, ValueError, LookupError, TypeError):
        return {}


def check_format(format: str, formats: Collection[str]) -> str:
    """Return the host's word for an export format.

    Args:
        format: as it was given.
        formats: the host's, but `onnx`.

    Raises:
        RequestError: there is none of that name.
    """
    word = FORMAT_ALIASES.get(format.lower(), format.lower())
    if word not in formats:
        words = ["onnx", *formats, *FORMAT_ALIASES]
        raise RequestError(f"format={format}: unknown{did_you_mean(word, words)} (known: {', '.join(words)})")
    return word


def check_calibration(precision: str | None, takes: Collection[str], data: object) -> None:
    """Refuse int8 without the pictures that a format is calibrated on.

    Raises:
        RequestError: `data=` is missing.
    """
    if precision == "int8" and "data" in takes and not data:
        raise RequestError("precision=int8: give data=, a data set file whose train pictures it is calibrated on")


def host_keys() -> frozenset[str]:
    """Return the names; none where Ultralytics is not installed."""
    return frozenset(host_defaults())


def check_host_keys(
    given: Iterable[str], own: Iterable[str], not_here: Mapping[str, str], *, also: Collection[str] = (), said: str = ""
) -> None:
    """Refuse settings that Ultralytics has not, or that have no place here.

    Args:
        given: names of settings that are no recipe's or command's own.
        own: names of those that are, for a hint.
        not_here: why those of Ultralytics that have no place have none.
        also: of these the ones that are welcome.
        said: what the message begins with.

    Raises:
        RequestError: naming the first one.
    """
    known = host_keys()
    for key in given:
        if key in not_here and key not in also:
            raise RequestError(f"{said}{key}= does not belong here: {not_here[key]}")
        if known and key not in known:
            raise RequestError(f"{said}unknown key {key!r}{did_you_mean(key, {*known, *own} - not_here.keys())}")
