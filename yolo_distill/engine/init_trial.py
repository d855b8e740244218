"""A student with weights of its own is trained a little from both starts, and goes on from the better one.

That is `init=try`, and `init=auto` where the student could start inside its teacher as well and there is time for it.

Which is better depends on how good its own weights are for these pictures, and there is no telling without looking.
Each trial is a run like any other, with a schedule of its own that ends after a fifth of the epochs; a finished one is
found again by what it depends on, an interrupted one goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.engine.assistants import Distil, run_stage, stage_key
from yolo_distill.engine.run_folder import runs_folder
from yolo_distill.errors import DistillError
from yolo_distill.recipe import Recipe

PREFIX = colorstr("start: ")
#: The two starts, in words.
STARTS = {"student": "from its own weights", "teacher": "inside the teacher"}
#: Share of the epochs that a trial has, and the fewest: inside a teacher it takes some before anything is seen at all.
SHARE, FEWEST = 0.2, 8


def start_beside_weights(epochs: int, *, trained: bool, frozen: bool = False) -> str:
    """Return what `init=auto` means for a student with weights of its own that could start inside its teacher as well.

    A trial, where that is no more than a fifth of the run. Else inside the teacher, a start that was early on ahead of
    the student's own weights in every run of tests/benchmarks/MEASURED.md, "Good weights"; but not if the teacher has
    yet to be trained, from random weights: it then knows nothing but these pictures. And not where layers are frozen,
    which says that the weights which they have are to stay.

    Args:
        epochs: of the run.
        trained: whether the teacher has weights.
        frozen: whether the run has `freeze=`.
    """
    if frozen:
        LOGGER.info(f"{PREFIX}freeze= keeps the student's own weights, so it starts from these; init=teacher does not")
        return "student"
    if SHARE * epochs >= FEWEST:
        return "try"
    return "teacher" if trained else "student"


def with_better_start(
    recipe: Recipe, data: Mapping[str, Any], settings: Mapping[str, Any], student: str, distil: Distil
) -> Recipe:
    """Return a recipe of `init=try` with the start that a short training from each finds better on val.

    Raises:
        DistillError: a trial could not be measured.
    """
    given = {**DEFAULT_CFG_DICT, **settings}
    whole = int(given["epochs"] or DEFAULT_CFG_DICT["epochs"])
    epochs = max(FEWEST, round(SHARE * whole))
    # A trial has its last epochs without mosaic as the run has, by their share.
    closing = round(int(given["close_mosaic"]) * min(epochs / whole, 1.0))
    short = {key: value for key, value in settings.items() if key != "time"}
    # The trial is too short to say how many steps the run will take.
    short |= {"epochs": epochs, "close_mosaic": closing, "plots": False, "nbs": given["nbs"]}
    found: dict[str, float] = {}
    for number, (start, words) in enumerate(STARTS.items(), 1):
        tried = recipe.model_copy(update={"init": start})
        folder = runs_folder(settings) / f"trial-{start}-{stage_key(student, tried, data, short)}"
        if not (folder / "summary.json").is_file():
            LOGGER.info(f"{PREFIX}trial {number} of {len(STARTS)}: {epochs} epochs {words}, in {folder}")
            run_stage(folder, tried, short, student, distil, f"{PREFIX}interrupted; the same command goes on with this")
        measured = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["student"]
        if "map" not in measured:
            raise DistillError(
                f"init=try: the student in {folder} could not be measured; give init=student or init=teacher"
            )
        found[start] = float(measured["map"])
    better = max(found, key=lambda start: found[start])  # its own weights where both are alike
    listed = ", ".join(f"{value:.1f} {STARTS[start]}" for start, value in found.items())
    LOGGER.info(f"{PREFIX}mAP50-95 on val after {epochs} epochs: {listed}; the student starts {STARTS[better]}")
    return recipe.model_copy(update={"init": better})
