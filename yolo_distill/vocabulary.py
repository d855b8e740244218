"""The words that recipes and command lines share, and how they are compared, free of heavy imports."""

from __future__ import annotations

from yolo_distill import recipe_table
from yolo_distill.terms_table import TABLE

#: The distillation terms.
TERMS = tuple(TABLE)
#: Those that compare feature maps, through projectors that learn with the student.
FEATURE_TERMS = tuple(name for name, term in TABLE.items() if term.kind == "maps")
#: How a term's strength goes over a run; see `yolo_distill.distillation.gain_schedule`.
SCHEDULES = recipe_table.SETTINGS["schedule"].choices
#: Settings that hold one value a term.
PER_TERM = recipe_table.PER_TERM


def spelled(name: str) -> str:
    """Return a class name as it is compared: without case, spaces, `_` and `-`."""
    return "".join(ch for ch in name.casefold() if ch not in " _-")
