"""The words that recipes and command lines share, and how they are compared, free of heavy imports."""

from __future__ import annotations

#: The distillation terms: two ways to teach classes, one for boxes, four for feature maps.
TERMS = ("logit", "hinton", "localization", "cwd", "pkd", "mgd", "mimic")
#: Those that compare feature maps, through projectors that learn with the student.
FEATURE_TERMS = ("cwd", "pkd", "mgd", "mimic")
#: How a term's strength goes over a run; see `yolo_distill.distillation.gain_schedule`.
SCHEDULES = ("ramp", "constant", "cosine", "mosaic")
#: How `init=teacher` chooses channels; see `yolo_distill.initialization.weight_selection`.
CHANNEL_CHOICES = ("even", "norm", "importance")
#: Settings that hold one value a term, given as `share.logit=0.2`.
PER_TERM = ("share", "schedule")


def spelled(name: str) -> str:
    """Return a class name as it is compared: without case, spaces, `_` and `-`."""
    return "".join(ch for ch in name.casefold() if ch not in " _-")
