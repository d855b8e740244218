"""The recipe of a run: out of what is given, or out of the checkpoint that it goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, colorstr

from yolo_distill.errors import RequestError
from yolo_distill.recipe import Recipe, check_recipe, overlaid, read_recipe_file
from yolo_distill.spelling import file_of

PREFIX = colorstr("distill: ")
#: Settings of a recipe that belong to the machine: files, which may lie elsewhere by now, and how the teacher computes.
MOVABLE = frozenset(
    {"teacher", "teacher_weights", "teacher_precision", "teacher_names", "teacher_outputs"}
    | {"class_map", "unlabeled", "trust"}
)


def given_recipe(given: Mapping[str, Any], host: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run that is started from Python.

    Args:
        given: recipe settings, and as `recipe` the name or file of the recipe that they go on top of, which can't hold
            settings of the host here.
        host: the host's settings that were given.

    Raises:
        RequestError: an unknown recipe, key or value, settings of the host, or what a trainer alone can't do.
    """
    name = str(given.get("recipe", "default"))
    values, of_host = read_recipe_file(name, DEFAULT_CFG_DICT)
    if of_host:
        listed = ", ".join(of_host)
        raise RequestError(f"recipe={name}: holds settings of Ultralytics ({listed}), which are given to train() here")
    own = {key: file_of(key, value) for key, value in given.items() if key != "recipe"}
    if any(host.get(key) is not None for key in ("warmup_epochs", "warmup_bias_lr")):  # what is given wins
        if own.get("init_warmup"):
            LOGGER.warning(f"{PREFIX}init_warmup= has no effect beside warmup_epochs= or warmup_bias_lr=")
        own["init_warmup"] = 0.0
    recipe = check_recipe(overlaid(values, own))
    if recipe.assistant:
        raise RequestError(f"assistant={recipe.assistant}: yolo-distill train distils one; a trainer can't")
    if recipe.init == "try":
        raise RequestError("init=try: yolo-distill train tries both starts; a trainer can't")
    return recipe


def resumed_recipe(saved: Mapping[str, Any], given: Mapping[str, Any]) -> Recipe:
    """Return the saved recipe; of what is given anew only what belongs to the machine may differ."""
    ignored = sorted(key for key in given.keys() - MOVABLE - {"recipe"} if given[key] != saved.get(key))
    if ignored:
        LOGGER.warning(f"{PREFIX}resume goes on with the run's own recipe and ignores {', '.join(ignored)}")
    return opened_recipe(saved, given)


def opened_recipe(saved: Mapping[str, Any], given: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run that goes on: of what is given it takes where things are by now, and how fast it goes.

    A precision that is left open is the one that the run chose when it began; that files are trusted is never taken
    from a file.
    """
    moved = {key: value for key, value in given.items() if key in MOVABLE and value not in {None, "auto"}}
    return check_recipe({**saved, "trust": False, **moved})
