"""The recipe of a distillation run: what is taught, how strongly, from where. Validated here, defaults in `cfg/`.

`cfg/default.yaml` is the only place where defaults stand; every other recipe names what it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.paths import cfg_dir


class Recipe(BaseModel):
    """Settings of a distillation run that are not the host's own. `cfg/default.yaml` explains each.

    Attributes:
        teacher: weights or architecture of the teacher.
        init: where the student starts.
        logit: gain of the class term.
        localization: gain of the box term.
        cwd: gain of the feature term.
        logit_gamma: exponent of |p_t - p_s| in the class term.
        box_floor: teacher score above which an anchor's box is taught.
        cwd_tau: temperature of the feature term.
        ramp_epochs: epochs over which the terms grow to their gains.
        teacher_precision: in which precision the teacher answers.
        kd_every: the teacher is asked for every so manieth batch.
        kd_until: share of the epochs after which the teacher is not asked any more.
        views: augmented views of each picture, in turn; 0: a new one each time.
        teacher_cache: where answers to views are kept; None: nowhere.
        match: whether all of the data's classes need a counterpart in the teacher.
        teacher_epochs: epochs of a teacher that has yet to be trained; None: as the student's.
        trust: load checkpoints without restriction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    teacher: str = Field(min_length=1)
    init: Literal["auto", "teacher", "student"]
    logit: float = Field(ge=0)
    localization: float = Field(ge=0)
    cwd: float = Field(ge=0)
    logit_gamma: float = Field(ge=0)
    box_floor: float = Field(ge=0, lt=1)
    cwd_tau: float = Field(gt=0)
    ramp_epochs: float = Field(ge=0)
    teacher_precision: Literal["auto", "fp32", "bf16", "fp16", "int8"]
    kd_every: int = Field(ge=1)
    kd_until: float = Field(gt=0, le=1)
    views: int = Field(ge=0)
    teacher_cache: Literal["ram", "disk"] | None
    match: Literal["all", "some"]
    teacher_epochs: int | None = Field(ge=1)
    trust: bool

    @property
    def gains(self) -> dict[str, float]:
        """Gains of the terms that are switched on, by name."""
        gains = {"logit": self.logit, "localization": self.localization, "cwd": self.cwd}
        return {name: gain for name, gain in gains.items() if gain > 0}


def recipe_keys() -> list[str]:
    """Return the names of all recipe settings."""
    return list(Recipe.model_fields)


def make_recipe(given: Mapping[str, Any], name: str = "default") -> Recipe:
    """Return the recipe `name` with the values of `given` in place of its own.

    Raises:
        RequestError: an unknown recipe, key or value.
    """
    own, _ = read_recipe_file(name)
    return check_recipe({**own, **given})


def read_recipe_file(name: str, host_keys: Iterable[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a recipe from `cfg/` by name, or from a path, on top of the default recipe.

    Args:
        name: `default`, another file of `cfg/`, or a path to a YAML file.
        host_keys: settings of the host, which a recipe may hold as well.

    Returns:
        recipe settings, and host settings.

    Raises:
        RequestError: there is no such file, it is no mapping, or it holds an unknown key.
    """
    default = _read_yaml(cfg_dir() / "default.yaml")
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = cfg_dir() / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in cfg_dir().glob("*.yaml"))
        raise RequestError(f"recipe={name}: no such recipe{did_you_mean(name, known)} (known: {', '.join(known)})")
    values = {**default, **_read_yaml(path)}
    host_keys = set(host_keys)
    for key in values.keys() - set(recipe_keys()) - host_keys:
        raise RequestError(f"{path}: unknown key {key!r}{did_you_mean(key, {*recipe_keys(), *host_keys})}")
    own = {key: value for key, value in values.items() if key in Recipe.model_fields}
    return own, {key: value for key, value in values.items() if key not in own}


def check_recipe(values: Mapping[str, Any]) -> Recipe:
    """Validate recipe settings.

    Raises:
        RequestError: naming the first setting that is wrong, what was received and what it should be.
    """
    try:
        return Recipe(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise RequestError(f"{key}= is missing; give it on the command line, e.g. {key}=yolo26s.pt") from None
        if first["type"] == "extra_forbidden":
            raise RequestError(f"unknown key {key!r}{did_you_mean(key, recipe_keys())}") from None
        what = first["msg"][:1].lower() + first["msg"][1:]
        raise RequestError(f"{key}={first['input']}: {what}") from None


def saved_recipe(values: Mapping[str, Any]) -> Recipe:
    """Validate the recipe of a run that was started earlier, perhaps before there were some of the settings.

    Raises:
        RequestError: as `check_recipe`.
    """
    return check_recipe(
        {"teacher_precision": "auto", "kd_every": 1, "kd_until": 1.0, "views": 0, "teacher_cache": None, **values}
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise RequestError(f"{path}: expected key: value lines, found {type(values).__name__}")
    return values
