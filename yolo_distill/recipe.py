"""The recipe of a distillation run: what is taught, how strongly, from where.

Its settings stand in `recipe_table.py`. A run takes its defaults from `cfg/default.yaml`; every other recipe names what
it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from yolo_distill.differences import shortened
from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe_table import PER_TERM, SETTINGS
from yolo_distill.settings import Setting
from yolo_distill.terms_table import FEATURE_TERMS, TABLE, TERMS
from yolo_distill.validation import described, read_yaml

#: Where the recipe travels in the host's arguments: in checkpoints (for resume) and to the workers of several devices.
ARGS_KEY = "distill"
#: Gains of the terms that a recipe may leave open, where they teach.
USUAL = {name: term.usual for name, term in TABLE.items() if term.usual is not None}
#: Fewest and most optimizer steps of a run in which the terms teach on top of a fitted start as well. What it rests on:
#: tests/benchmarks/MEASURED.md, "Where the terms pay".
WORTH_STEPS = (500, 1500)


def _type_of(setting: Setting) -> Any:
    """Return the type by which pydantic checks what a setting holds."""
    kind: Any = setting.kind
    if setting.choices:
        kind = Annotated[Literal[setting.choices], BeforeValidator(setting.chosen)]
    bounds: Any = Field(ge=setting.low, gt=setting.above, le=setting.high, lt=setting.below)
    length: Any = Field(min_length=1 if setting.required else None)
    checked: Any = Annotated[kind, bounds, length]
    if setting.nullable:
        checked = checked | None
    return GenericAlias(dict, (str, checked)) if setting.per_term else checked


_FIELDS: dict[str, Any] = {key: (_type_of(setting), ...) for key, setting in SETTINGS.items()}
_Fields: Any = create_model("_Fields", **_FIELDS)


class Recipe(_Fields):
    """Settings of a distillation run that are not the host's own: an attribute for each row of `recipe_table`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator(*PER_TERM)
    @classmethod
    def _of_terms(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if name not in TERMS:
                raise ValueError(f"unknown term {name!r}{did_you_mean(name, TERMS)}")
        return values

    @property
    def gains(self) -> dict[str, float]:
        """Gains of the terms that are on, by name; of open ones those that teach wherever a student starts."""
        if self.teach is False:
            return {}
        given = {name: getattr(self, name) for name in TERMS}
        everywhere = [name for name in TERMS if name not in FEATURE_TERMS and TABLE[name].task is None]
        given |= {name: USUAL.get(name) for name in everywhere if given[name] is None}
        return {name: float(gain) for name, gain in given.items() if gain}

    @property
    def has_several_teachers(self) -> bool:
        """Whether `teacher` names several, with commas, and not one whose path has a comma in it."""
        return "," in self.teacher and not Path(self.teacher).expanduser().exists()

    @property
    def why_asked(self) -> str | None:
        """Why the terms teach wherever the student starts, in words; None where that depends on its start."""
        if self.teach != "auto":
            return "teach=true" if self.teach else None
        if given := [name for name in TERMS if getattr(self, name)]:
            return f"{given[0]}= is given"
        if self.unlabeled:
            return "nobody else teaches unlabelled pictures"
        if self.has_several_teachers:
            return "the student starts inside one teacher, and several are to teach it"
        if self.teacher_imgsz:
            return "teacher_imgsz= is given"
        return None

    def teaching(self, *, inside: bool, steps: int | None = None) -> tuple[bool, str]:
        """Return whether the terms teach, and why, in words. This is the one place where that is decided.

        A student that starts inside its teacher and is fitted to it has at first what the terms could teach it.

        Args:
            inside: whether the student starts inside its teacher.
            steps: optimizer steps of the run; None where they are not known yet, and taken for enough.
        """
        if self.teach is False:
            return False, "teach=false"
        if not self.gains:
            return False, "all gains are 0"
        if why := self.why_asked:
            return True, why
        if not inside:
            return True, "the student does not start inside its teacher"
        if not self.init_fit:
            return True, "its start is not fitted"
        low, high = WORTH_STEPS
        if steps is not None and not low <= steps <= high:
            as_good = f"in {steps} optimizer steps that is as good as being taught, and faster"
            return False, f"{as_good}; from {low} to {high} teaching pays (teach=true teaches it all the same)"
        return True, f"from {low} to {high} optimizer steps that adds to its start (teach=false leaves it out)"

    def settled(self, *, inside: bool, steps: int | None = None, task: str = "detect") -> Recipe:
        """Return the recipe with all decided that it leaves open until it is known where the student starts.

        Where the terms teach, class and box term are there, with that of the task where it has one. `cwd` joins them
        where the student starts inside the teacher that is asked, about what the student sees; not beside other maps,
        and not where shares leave it no room.

        Args:
            inside: whether the student starts inside its teacher.
            steps: optimizer steps of the run; see `teaching`.
            task: of the student.
        """
        teach, _ = self.teaching(inside=inside, steps=steps)
        gains = self.gains if teach else {}
        joins = inside and gains.keys() & {"logit", "localization"} and not gains.keys() & set(FEATURE_TERMS)
        if joins and not self.teacher_imgsz and not self.has_several_teachers and self.has_room_for_cwd:
            gains = {**gains, "cwd": USUAL["cwd"]}
        if gains.keys() & {"logit", "localization"} and self.balance == "fixed":
            gains = {**{name: USUAL[name] for name, term in TABLE.items() if term.task == task}, **gains}
        decided = {name: gains.get(name, 0.0) for name in USUAL if getattr(self, name) is None}
        return self.model_copy(update={**decided, **({} if inside and self.init_fit else {"init_warmup": 0.0})})

    @property
    def has_room_for_cwd(self) -> bool:
        """Whether the shares of the terms and of `cwd` stay below 1 together."""
        terms = [*self.gains, "cwd"]
        return self.balance == "fixed" or (self.share.keys() >= set(terms) and sum(self.share[t] for t in terms) < 1)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.unlabeled:
            self._unlabelled_is_taught()
        if self.balance == "fixed":
            return self
        wanted = {name: self.share.get(name) for name in self.gains}
        if lacking := [name for name, share in wanted.items() if share is None]:
            raise ValueError(f"share.{lacking[0]} is missing; balance=auto needs one for each term with a gain")
        if (total := sum(share or 0.0 for share in wanted.values())) >= 1:
            listed = ", ".join(f"share.{name}={share:g}" for name, share in wanted.items())
            raise ValueError(f"{listed}: sum to {total:g}, and would drown the task; keep the sum below 1")
        return self

    def _unlabelled_is_taught(self) -> None:
        if not self.gains:
            why = "all gains are 0" if self.teach else "teach=false"
            raise ValueError(f"unlabeled={self.unlabeled}: {why}, so that nothing would teach these pictures")
        if self.unlabeled_conf is None:
            return
        said = f"unlabeled_conf={self.unlabeled_conf:g}"
        if "localization" not in self.gains:
            raise ValueError(f"{said}: the teacher is asked for no boxes with localization=0; leave it out")
        if self.match == "some":
            raise ValueError(f"{said}: objects that no teacher knows would count as background; leave match=some out")


def recipe_keys() -> list[str]:
    """Return the names of all recipe settings."""
    return list(SETTINGS)


def make_recipe(given: Mapping[str, Any], name: str = "default") -> Recipe:
    """Return the recipe `name` with the values of `given` in place of its own; see `check_recipe`."""
    return check_recipe(overlaid(read_recipe_file(name)[0], given))


def is_recipe_key(key: str) -> bool:
    """Return whether a setting belongs to the recipe, also one of a single term such as `share.logit`."""
    return key in SETTINGS or key.partition(".")[0] in PER_TERM


def overlaid(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with those of `given` on top; what is given for one term leaves the other terms as they are.

    A single word for all terms, `schedule: cosine`, is allowed as well.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for key, value in sorted(given.items(), key=lambda item: "." in item[0]):  # what is said of one term goes last
        owner, _, term = key.partition(".")
        if owner not in PER_TERM:
            result[key] = value
            continue
        if not term and not isinstance(value, Mapping):
            value = dict.fromkeys(TERMS, value)
        result[owner] = {**(result.get(owner) or {}), **({term: value} if term else value)}
    return result


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
    default = overlaid({}, _read_yaml(cfg_dir() / "default.yaml"))
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = cfg_dir() / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in cfg_dir().glob("*.yaml"))
        raise RequestError(f"recipe={name}: no such recipe{did_you_mean(name, known)} (known: {', '.join(known)})")
    values = overlaid(default, _read_yaml(path))
    keys = {*SETTINGS, *host_keys}
    for key in values.keys() - keys:
        raise RequestError(f"{path}: unknown key {key!r}{did_you_mean(key, keys)}")
    if values.get("trust"):
        raise RequestError(f"{path}: has trust: {values['trust']}; a file can't say so, give trust=true beside recipe=")
    own = {key: value for key, value in values.items() if key in SETTINGS}
    return own, {key: value for key, value in values.items() if key not in own}


def check_recipe(values: Mapping[str, Any]) -> Recipe:
    """Validate recipe settings.

    Raises:
        RequestError: naming the first setting that is wrong, what was received and what it should be.
    """
    try:
        return Recipe(**values)
    except ValidationError as error:
        kind, key, received, text, hint = described(error, SETTINGS)
        said = {
            "missing": f"{key}= is missing; give it, e.g. {key}=yolo26s.pt",
            "extra_forbidden": f"unknown key {key!r}{hint}",
            "value_error": f"{key}: {text}" if key else text,  # a sentence of ours
        }
        raise RequestError(said.get(kind, f"{key}={received}: {text}{hint}")) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    values = read_yaml(path, str(path))
    if not isinstance(values, dict):
        raise RequestError(f"{path}: expected key: value lines, found {type(values).__name__}")
    if other := [key for key in values if not isinstance(key, str)]:
        raise RequestError(f"{path}: unknown key {shortened(repr(other[0]))}")
    return values
