"""The arms of a comparison: what each word of `arms=` means, and the settings it comes to.

`plain` is the student without a teacher, `host` Ultralytics' own distillation (`distill_model=`), `distilled` the
recipe of `recipe=`; any other word is a recipe, by name or by path. `@key=value` behind a word changes one setting of
that arm: `distilled@logit=0@balance=auto`, `host@dis=2`, `plain@epochs=200`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.utils import LOGGER

from yolo_distill.engine.provenance import digests_of_files
from yolo_distill.engine.request_checks import require_gains
from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.host_keys import NOT_IN_COMPARE, check_host_keys
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe import check_recipe, is_recipe_key, overlaid, read_recipe_file, recipe_keys
from yolo_distill.settings import host_settings

#: What the arms are compared with, Ultralytics' own distillation, and a recipe of ours.
PLAIN, HOST, DISTILLED = _OURS = ("plain", "host", "distilled")
#: Plain with the epochs that the time of distillation would have bought.
EQUAL_TIME = "plain (equal time)"
TEACHER = "teacher"

_ONE_FOR_ALL = "one for all arms: give it to the command"
#: Settings that every arm has to have alike, so that `@key=value` and recipes refuse them.
_SHARED = {
    **dict.fromkeys(("data", "imgsz", "device", "amp", "teacher", "teacher_epochs", "student", "seeds"), _ONE_FOR_ALL),
    "recipe": "the word before the first @ names the recipe",
}
_COMMA_OUTSIDE_BRACKETS = re.compile(r",(?![^\[(]*[\])])")


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        label: the word it was asked for by, which is its name in every table.
        kind: `PLAIN`, `HOST` or `DISTILLED`.
        host: settings of Ultralytics, all that were given.
        recipe: all settings of the recipe; None for an arm that is not ours.
        files: digests of the files that the recipe names, by setting.
        given: recipe settings that were asked for by name, not by a recipe file.
    """

    label: str
    kind: str
    host: dict[str, Any]
    recipe: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = field(default=(), compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what has to stay as it is for runs of this arm to be comparable."""
        return {"kind": self.kind, "host": self.host, "recipe": self.recipe, "files": self.files}

    def as_it_runs(self) -> dict[str, Any]:
        """Return the same with all settings of Ultralytics, also those that were not given."""
        return {**self.as_dict(), "host": {**DEFAULT_CFG_DICT, **self.host}}


def prepares(recipe: Mapping[str, Any] | None) -> bool:
    """Return whether runs of a recipe first train what they all want: an assistant, or a try at both starts."""
    return recipe is not None and (bool(recipe["assistant"]) or recipe["init"] == "try")


def read_arms(
    words: str, *, recipe: str, own: Mapping[str, Any], host: Mapping[str, Any], teacher: str
) -> dict[str, Arm]:
    """Return the arms that `arms=` names, by label.

    Args:
        words: comma-separated.
        recipe: what `distilled` means, by name or path.
        own: recipe settings given for all arms of ours.
        host: settings of Ultralytics given for all arms, as `check_host_settings` returns them.
        teacher: as it was given.

    Raises:
        RequestError: an unknown arm, an unknown or impossible setting, or an arm named twice.
    """
    arms: dict[str, Arm] = {}
    for word in map(str.strip, _COMMA_OUTSIDE_BRACKETS.split(words)):
        if not word:
            raise RequestError(f"arms={words}: an arm between two commas has no name")
        arm = _read_arm(word, recipe, own, host, teacher)
        if arm.label in arms:
            raise RequestError(f"arms={words}: two arms are called {arm.label}; name each once, or rename the file")
        if same := next((label for label, other in arms.items() if other.as_it_runs() == arm.as_it_runs()), None):
            raise RequestError(f"arms={words}: {arm.label} is the same as {same}; leave one of them out")
        arms[arm.label] = arm
    return arms


def check_host_settings(given: Mapping[str, Any], said: str = "", also: Collection[str] = ()) -> dict[str, Any]:
    """Return settings of Ultralytics as it reads them.

    Raises:
        RequestError: one that it can't take, or that has no place in a comparison unless it is in `also`; the message
            begins with `said`.
    """
    check_host_keys(given, recipe_keys(), {**NOT_IN_COMPARE, "data": _ONE_FOR_ALL}, also=also, said=said)
    try:
        checked = vars(get_cfg(overrides=dict(given)))
        require_gains(checked)
    except (TypeError, ValueError, SyntaxError) as error:
        raise RequestError(said + " ".join(str(error).split())) from None
    if isinstance(checked["pretrained"], (str, Path)) and "pretrained" in given:
        file = checked["pretrained"]
        raise RequestError(f"{said}pretrained={file}: all arms start from one student; give student={file}")
    if "batch" in given and checked["batch"] < 1:
        raise RequestError(
            f"{said}batch={checked['batch']}: each arm would find a batch of its own, by the memory that it takes; "
            "give a number of pictures, such as batch=16"
        )
    return {key: checked[key] for key in given}


def settings_of_recipe(recipe: str) -> dict[str, Any]:
    """Return the settings of Ultralytics in the file of `recipe=`, which hold for all arms and the teacher.

    Raises:
        RequestError: there is no such file, or a setting has no place in a comparison.
    """
    return check_host_settings(read_recipe_file(recipe, DEFAULT_CFG_DICT)[1], f"recipe={recipe}: ")


def _read_arm(word: str, recipe: str, own: Mapping[str, Any], host: Mapping[str, Any], teacher: str) -> Arm:
    base, *changes = word.split("@")
    said = f"arms={word}: "
    more_own, more_host = _read_changes(changes, said)
    for_all = {**settings_of_recipe(recipe), **host}
    if base in {PLAIN, HOST}:
        if more_own:
            raise RequestError(f"{said}{next(iter(more_own))}= is for a recipe of ours, and {base} has none")
        return Arm(word, base, check_host_settings({**for_all, **more_host}, said, {"dis"} if base == HOST else ()))
    values, preset_host = read_recipe_file(recipe if base == DISTILLED else _recipe_of(base, word), DEFAULT_CFG_DICT)
    settings = check_host_settings({**for_all, **preset_host, **host, **more_host}, said)
    others = {**DEFAULT_CFG_DICT, **for_all}
    if base != DISTILLED and values["teacher_epochs"] is not None:
        raise RequestError(f"{said}teacher_epochs= in its recipe does not belong there: {_ONE_FOR_ALL}")
    alone = [key for key in sorted(preset_host.keys() - more_host.keys()) if settings[key] != others[key]]
    for key in alone:
        if key in _SHARED:
            raise RequestError(f"{said}{key}={preset_host[key]} in its recipe does not belong there: {_SHARED[key]}")
    try:
        checked = check_recipe({**overlaid(overlaid(values, own), more_own), "teacher": teacher})
    except RequestError as error:
        raise RequestError(f"{said}{error}") from None
    label = "@".join([_name_of(base), *changes])
    if alone:
        LOGGER.warning(
            f"arm {label}: {', '.join(alone)} in its file: for this arm alone; for all arms give it to the command"
        )
    return Arm(label, DISTILLED, settings, checked.model_dump(), digests_of_files(checked), tuple({**own, **more_own}))


def _recipe_of(name: str, word: str) -> str:
    """Return the name or the file of a recipe that there is."""
    known = list(dict.fromkeys([*_OURS, *sorted(path.stem for path in cfg_dir().glob("*.yaml"))]))
    if not _is_path(name):
        if name not in known:
            listed = ", ".join(known)
            raise RequestError(f"unknown arm {name!r}{did_you_mean(name, known)} (known: {listed}, or a .yaml file)")
        return name
    file = Path(name).expanduser()
    if not file.is_file() and file.parent.name == "cfg":
        file = cfg_dir() / file.name  # where the package is installed there is no such folder to name
    if not file.is_file():
        close = did_you_mean(file.stem, known) if file.parent.name == "cfg" else ""
        raise RequestError(f"arms={word}: no such recipe: {name}{close}")
    return str(file)


def _is_path(name: str) -> bool:
    return Path(name).suffix.lower() in {".yaml", ".yml"}


def _name_of(base: str) -> str:
    """Return the word of an arm; of a file its stem, unless that is a word of our own: cfg/host.yaml is not host."""
    if not _is_path(base) or Path(base).stem in {*_OURS, TEACHER, EQUAL_TIME}:
        return Path(base).name
    return Path(base).stem


def _read_changes(changes: list[str], said: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recipe settings and host settings that stand behind the word of an arm."""
    pairs: dict[str, str] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not (key and equals and value):
            raise RequestError(f"{said}{'@' + change!r} is not of the form @key=value")
        if key in _SHARED:
            raise RequestError(f"{said}{key}= does not belong there: {_SHARED[key]}")
        if key in pairs:
            raise RequestError(f"{said}{key}= is there twice; give it once")
        pairs[key] = value
    values = host_settings(pairs)
    # In a recipe null is what is left open; to the host it is a word.
    own = {key: None if value == "null" else value for key, value in values.items() if is_recipe_key(key)}
    return own, {key: value for key, value in values.items() if key not in own}


def read_seeds(text: str) -> list[int]:
    """Return the seeds that `seeds=` names.

    Raises:
        RequestError: one is no whole number from 0 on, or is given twice.
    """
    seeds: list[int] = []
    for word in map(str.strip, text.split(",")):
        if not word.isascii() or not word.isdigit():
            raise RequestError(f"seeds={text}: {word!r} is not a whole number from 0 on; give e.g. seeds=0,1,2")
        if int(word) in seeds:
            raise RequestError(f"seeds={text}: {int(word)} is there twice; a seed counts once")
        seeds.append(int(word))
    if max(seeds) >= 2**31:
        raise RequestError(f"seeds={text}: {max(seeds)} is too large; seeds go up to {2**31 - 1}")
    return seeds


def folder_name(label: str, seed: int) -> str:
    """Return the name of the folder of an arm's run: its label, where that can be a file's name."""
    name = re.sub(r"[^A-Za-z0-9._=@+-]+", "-", label)[:80].strip("-")
    if name != label:  # so that no two labels share a folder
        name += f"-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
    return f"{name}-s{seed}"
