"""Times in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"
