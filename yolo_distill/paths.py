"""Where the files beside the code are: recipes in `cfg/` and export targets in `export/`.

In a checkout both lie at the top of the repository; in an installed wheel they lie in `yolo_distill/_data/`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _beside_code(name: str) -> Path:
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def cfg_dir() -> Path:
    """Return the folder of the shipped recipes."""
    return _beside_code("cfg")


def export_dir() -> Path:
    """Return the folder of the shipped export targets."""
    return _beside_code("export")
