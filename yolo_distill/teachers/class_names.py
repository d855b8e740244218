"""YAML files that a setting names, and class names as files have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from yolo_distill.errors import RequestError, did_you_mean


def read_yaml(file: Path, said: str) -> Any:
    """Return what a YAML file holds.

    Raises:
        RequestError: it cannot be read, or is not YAML; `said` is the setting that named it.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        near = (found.name for found in file.parent.glob("*.y*ml"))
        raise RequestError(f"{said}: cannot be read ({error.strerror}){did_you_mean(file.name, near)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"{said}: is not YAML ({' '.join(str(error).split())})") from None


def names_by_number(names: Any) -> dict[int, str]:
    """Return class names by number, of a list or of a dict with numbers as keys; none of anything else."""
    pairs = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
    if not isinstance(pairs, dict) or not all(str(number).isdigit() for number in pairs):
        return {}
    return {int(number): str(name) for number, name in pairs.items()}


def spelled(name: str) -> str:
    """Return a class name as it is compared: without case, spaces, `_` and `-`."""
    return "".join(ch for ch in name.casefold() if ch not in " _-")
