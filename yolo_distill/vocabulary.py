"""The words that recipes and command lines share, and how they are compared, free of heavy imports."""

from __future__ import annotations

from yolo_distill.settings import Setting
from yolo_distill.terms_table import TABLE

#: The distillation terms.
TERMS = tuple(TABLE)
#: Those that compare feature maps, through projectors that learn with the student.
FEATURE_TERMS = tuple(name for name, term in TABLE.items() if term.kind == "maps")
#: How a term's strength goes over a run; see `yolo_distill.distillation.gain_schedule`.
SCHEDULES = ("ramp", "constant", "cosine", "mosaic")
#: How `init=teacher` chooses channels; see `yolo_distill.initialization.weight_selection`.
CHANNEL_CHOICES = ("even", "norm", "importance")
#: Settings that hold one value a term, given as `share.logit=0.2`, or one for all.
PER_TERM = {
    "share": Setting(float, "wanted gradient of each term, by the task's", above=0, below=1),
    "schedule": Setting(str, "how all terms' strength goes over the run", "ramp", choices=SCHEDULES),
}


def spelled(name: str) -> str:
    """Return a class name as it is compared: without case, spaces, `_` and `-`."""
    return "".join(ch for ch in name.casefold() if ch not in " _-")
