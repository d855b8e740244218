"""Where this machine keeps a user's caches and private files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from yolo_distill.errors import DistillError

_NAME = "yolo-distill"


def cache_folder() -> Path:
    """Return the folder for what can be fetched again; it need not exist.

    Raises:
        DistillError: this user has no home.
    """
    if sys.platform == "win32":
        return _of("LOCALAPPDATA", "AppData", "Local") / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / _NAME
    return _of("XDG_CACHE_HOME", ".cache")


def private_folder() -> Path:
    """Return the folder for keys; it need not exist.

    Raises:
        DistillError: this user has no home.
    """
    if sys.platform == "win32":
        return _of("LOCALAPPDATA", "AppData", "Local")
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support" / _NAME
    return _of("XDG_CONFIG_HOME", ".config")


def _of(variable: str, *otherwise: str) -> Path:
    given = os.environ.get(variable, "")
    # The XDG rules: a relative path is as good as none.
    return (Path(given) if Path(given).is_absolute() else _home().joinpath(*otherwise)) / _NAME


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise DistillError("this user has no home folder; set HOME to one that can be written") from error
