"""Class names as files have them."""

from __future__ import annotations

from typing import Any


def names_by_number(names: Any) -> dict[int, str]:
    """Return class names by number, of a list or of a dict with numbers as keys; none of anything else."""
    pairs = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
    if not isinstance(pairs, dict) or not all(str(number).isdecimal() for number in pairs):
        return {}
    return {int(number): str(name) for number, name in pairs.items()}


def spelled(name: str) -> str:
    """Return a class name as it is compared: without case, spaces, `_` and `-`."""
    return "".join(ch for ch in name.casefold() if ch not in " _-")
