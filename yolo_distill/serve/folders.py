"""Where this machine keeps a user's caches and private files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from yolo_distill.errors import DistillError


def cache_folder() -> Path:
    """Return the folder for what can be fetched again; it need not exist.

    Raises:
        DistillError: this user has no home.
    """
    return _user_path("user_cache_path")


def private_folder() -> Path:
    """Return the folder for keys; otherwise as `cache_folder`."""
    return _user_path("user_config_path")


def _user_path(kind: str) -> Path:
    import platformdirs

    # Without a home, newer versions of platformdirs raise, and older ones name a folder where the command is typed.
    with suppress(RuntimeError):
        folder: Path = getattr(platformdirs, kind)("yolo-distill", appauthor=False)
        if folder.is_absolute():
            return folder
    raise DistillError("this user has no home folder; set HOME to one that can be written")
