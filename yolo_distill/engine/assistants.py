"""Teacher, assistant, student: each assistant is distilled first, and then teaches the next smaller one.

A teacher much larger than its student often teaches worse than one of the next size: Mirzadeh et al., "Improved
Knowledge Distillation via Teacher Assistant", AAAI 2020, arXiv 1902.03393. Each stage is a run like any other; a
finished one is found again by what it depends on, an interrupted one goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, colorstr

from yolo_distill.engine.provenance import digest_of_teachers, digests_of_files
from yolo_distill.engine.run_folder import runs_folder
from yolo_distill.engine.teacher_training import content_key
from yolo_distill.recipe import Recipe

PREFIX = colorstr("chain: ")

#: Recipe settings that say where a stage gets its teacher, or how fast it goes, but not what it learns from it.
_NO_MATTER = {"teacher", "assistant", "teacher_precision", "teacher_epochs", "force", "trust"}

#: Settings of a teacher and not of an assistant, which has seen pictures of the student's size and has the data's own
#: classes.
_OF_THE_TEACHER = ("teacher_imgsz", "teacher_names", "teacher_outputs", "class_map")

#: Distils `student` from `recipe.teacher` in a folder: `(recipe, settings, student) -> run folder`.
Distil = Callable[[Recipe, dict[str, Any], str], Path]


def assistants(recipe: Recipe) -> list[str]:
    """Return the assistants of a recipe, the largest first."""
    return [name.strip() for name in (recipe.assistant or "").split(",") if name.strip()]


def distil_assistants(recipe: Recipe, data: Mapping[str, Any], settings: Mapping[str, Any], distil: Distil) -> Recipe:
    """Distil each assistant from the one before it, and return the recipe with the last of them as its teacher.

    Their runs take over the host's `settings` of the student's; `distil` does one of them.
    """
    names = assistants(recipe)
    if not names:
        return recipe
    # What asks for the terms may be about the teacher alone, and holds for the last stage as well.
    recipe = recipe.model_copy(update={"assistant": None, **({"teach": True} if recipe.why_asked else {})})
    for number, name in enumerate(names, 1):
        # What is tried out is the student's own start.
        stage = recipe.model_copy(update={"init": "auto"}) if recipe.init == "try" else recipe
        folder = runs_folder(settings) / f"assistant-{Path(name).stem}-{stage_key(name, stage, data, settings)}"
        best = folder / "weights" / "best.pt"
        if (folder / "summary.json").is_file() and best.is_file():
            LOGGER.info(f"{PREFIX}assistant {name} found finished: {best}")
        else:
            LOGGER.info(f"{PREFIX}{number} of {len(names) + 1}: {recipe.teacher} teaches {name}, in {folder}")
            run_stage(folder, stage, settings, name, distil, f"{PREFIX}interrupted; the same command goes on with this")
        recipe = recipe.model_copy(update={**dict.fromkeys(_OF_THE_TEACHER), "teacher": str(best)})
    LOGGER.info(f"{PREFIX}{len(names) + 1} of {len(names) + 1}: {recipe.teacher} teaches the student")
    return recipe


def run_stage(
    folder: Path, recipe: Recipe, settings: Mapping[str, Any], student: str, distil: Distil, interrupted: str
) -> None:
    """Do a run that others build on in its folder, or go on with it; `interrupted` is what is said on Ctrl-C."""
    last = folder / "weights" / "last.pt"
    place = {"project": str(folder.parent), "name": folder.name, "exist_ok": True}
    going_on = {"resume": str(last)} if last.is_file() else {}
    try:
        distil(recipe, {**settings, **place, **going_on}, student)
    except KeyboardInterrupt:
        LOGGER.warning(f"{interrupted}, and then with the rest")
        raise


def stage_key(name: str, recipe: Recipe, data: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return a short hash of all that decides what a student learns in a run that is found again by it."""
    files = digests_of_files(recipe)  # wherever they lie
    matters = {key: value for key, value in recipe.model_dump().items() if key not in _NO_MATTER | files.keys()}
    teacher = digest_of_teachers(recipe.teacher)
    file = Path(name).expanduser()
    weights = hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".pt" and file.is_file() else None
    own = [teacher, matters, weights, files]
    text = content_key(file.stem if weights else name, data, settings) + json.dumps(own, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
