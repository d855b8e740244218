"""What of a request to train can be checked without torch, so that a wrong word is answered at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_distill.errors import RequestError
from yolo_distill.host_keys import NOT_IN_TRAIN, check_host_keys, host_keys
from yolo_distill.recipe import Recipe, check_recipe, overlaid, read_recipe_file
from yolo_distill.recipe_table import SETTINGS


def read_train_request(own: Mapping[str, Any], host: Mapping[str, Any], recipe: str) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe that was asked for, and all settings of Ultralytics, its own among them.

    Args:
        own: recipe settings that were given.
        host: Ultralytics' settings that were given.
        recipe: name or path of the recipe that fills in the rest.

    Raises:
        RequestError: an unknown key, a bad value, or what has to be given is missing.
    """
    check_host_keys(host, SETTINGS, NOT_IN_TRAIN)
    values, host_values = read_recipe_file(recipe, host_keys())
    checked = check_recipe(overlaid(values, own))
    check_host_keys(host_values, SETTINGS, NOT_IN_TRAIN)
    settings = {**host_values, **host}
    if not settings.get("data"):
        raise RequestError("data= is missing; give the data.yaml of your pictures, e.g. data=path/to/data.yaml")
    return checked, settings
