"""What a checkpoint says of its training, by names without folders, as it travels with what is exported."""

from __future__ import annotations

import re
from typing import Any

from ultralytics.nn.tasks import DetectionModel

from yolo_distill.recipe import ARGS_KEY
from yolo_distill.teachers.loading import named
from yolo_distill.terms_table import TERMS

_SETTINGS = ("epochs", "imgsz", "batch", "seed")


def training_of(model: DetectionModel) -> dict[str, Any]:
    """Return what is known, each only where it is.

    That is `architecture` and `data` by name, `settings` of Ultralytics; and of a distillation run `teacher` by name,
    `unlabeled` by name, and `recipe`: `init` and the gains of the terms that taught.
    """
    args = model.train_args
    found: dict[str, Any] = {
        "architecture": _named(model.yaml.get("yaml_file")),
        "data": _named(args.get("data")),
        "settings": {key: args[key] for key in _SETTINGS if args.get(key) is not None},
    }
    if recipe := args.get(ARGS_KEY):
        taught = () if recipe.get("teach") is False else TERMS
        found["teacher"] = ", ".join(map(str, named(recipe["teacher"], recipe.get("teacher_weights"))))
        found["unlabeled"] = _named(recipe.get("unlabeled"))
        found["recipe"] = {key: recipe[key] for key in ("init", *taught) if recipe.get(key)}
    return {key: value for key, value in found.items() if value}


def name_of(path: str) -> str:
    """Return a file's name; that of a `data.yaml`, which all are called, with its folder's."""
    parts = [part for part in re.split(r"[/\\]", path) if part]
    return "/".join(parts[-2:] if parts[-1].rpartition(".")[0] in {"data", "dataset"} else parts[-1:])


def _named(path: Any) -> str:
    return name_of(path) if isinstance(path, str) and path.strip("/\\") else ""
