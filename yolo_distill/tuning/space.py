"""The space of a search: which settings may vary, and between what.

lr0: [0.001, 0.02, log]             a range, by magnitude
logit: [0, 2]                       a range; of whole numbers where the setting takes those
schedule: {choose: [ramp, cosine]}  a choice
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.host_keys import NOT_IN_COMPARE, host_defaults
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe_table import STUDENT_SIZES, on_command_line
from yolo_distill.settings import OPEN, Setting
from yolo_distill.validation import read_yaml

_FOR_ALL = "it is one for all trials: give it to the command"
#: Settings that cannot vary in a search, and why.
NOT_IN_SPACE = {
    **NOT_IN_COMPARE,
    **dict.fromkeys(
        ("teacher", "student", "data", "imgsz", "device", "amp", "teacher_epochs", "trust", "force"), _FOR_ALL
    ),
    **dict.fromkeys(STUDENT_SIZES, "by accuracy alone the largest student would win: see train latency="),
    "epochs": "the longest run would win: give it to the command",
    "batch": "it changes the number of steps as well: give it to the command",
    "assistant": "each trial would train one of its own: give it to the command",
}
_FORMS = "write [low, high], [low, high, log] or {choose: [a, b]}"


@dataclass(frozen=True)
class Range:
    """What one setting may be: a number from `low` to `high`, or one of `choices`."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that stand in the file."""
        return self.choices or (self.low, self.high)

    def suggest(self, key: str, trial: Any) -> Any:
        """Return what Optuna proposes; four digits are enough for a recipe."""
        if self.choices:
            return self.choices[trial.suggest_categorical(key, list(range(len(self.choices))))]
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        return float(f"{trial.suggest_float(key, self.low, self.high, log=self.log):.4g}")


Space = Mapping[str, Range]


def read_space(name: str, given: Collection[str]) -> Space:
    """Read a space from `cfg/spaces/` by name, or from a path.

    Args:
        name: `default`, or a path to a YAML file.
        given: settings that the command has, which then cannot vary.

    Raises:
        RequestError: there is no such file, or a line of it cannot be followed; says which and how to write it.
    """
    path = Path(name).expanduser()
    if path.suffix not in {".yaml", ".yml"}:
        path = cfg_dir() / "spaces" / f"{name}.yaml"
        if not path.is_file():
            raise RequestError(f"space={name}: no such space; give default, or a .yaml file")
    values = read_yaml(path, f"space={name}")
    if not isinstance(values, dict) or not values:
        raise RequestError(f"space={name}: expected a line for each setting that may vary; {_FORMS}")
    return {str(key): _read(f"space={name}: ", str(key), value, given) for key, value in values.items()}


def _read(said: str, key: str, value: Any, given: Collection[str]) -> Range:
    rows, host = on_command_line(), host_defaults()
    if key in NOT_IN_SPACE:
        raise RequestError(f"{said}{key} cannot vary: {NOT_IN_SPACE[key]}")
    if key not in rows and key not in host:
        raise RequestError(f"{said}unknown key {key!r}{did_you_mean(key, {*rows, *host} - NOT_IN_SPACE.keys())}")
    if key in given:
        raise RequestError(f"{said}{key} is given to the command as well; leave one of them out")
    row = rows.get(key)
    if isinstance(value, dict) and value.keys() == {"choose"} and isinstance(value["choose"], list):
        if len(value["choose"]) < 2:
            raise RequestError(f"{said}{key}: a choice needs two values or more, got {value['choose']}")
        return Range(choices=tuple(_checked(said, key, row, one) for one in value["choose"]))
    if not isinstance(value, list) or len(value) not in {2, 3} or value[2:] not in ([], ["log"]):
        raise RequestError(f"{said}{key}: {value} is no range and no choice; {_FORMS}")
    low, high = (_number(f"{said}{key}", one) for one in value[:2])
    kind = row.kind if row is not None and not row.choices else type(host.get(key))
    if kind not in {int, float}:
        raise RequestError(f"{said}{key}: takes no numbers; write {{choose: [a, b]}}")
    if low >= high:
        raise RequestError(f"{said}{key}: {value} goes from {low:g} to {high:g}; write the smaller number first")
    if len(value) == 3 and low <= 0:
        raise RequestError(f"{said}{key}: {value} is by magnitude, which has no {low:g}; begin above 0")
    whole = kind is int
    if whole and not (low.is_integer() and high.is_integer()):
        raise RequestError(f"{said}{key}: {value}: takes whole numbers")
    for end in (low, high):
        _checked(said, key, row, int(end) if whole else end)
    return Range(low, high, log=len(value) == 3, whole=whole)


def _number(said: str, value: Any) -> float:
    try:
        return float(value)  # 1e-3 is text to YAML
    except (TypeError, ValueError):
        raise RequestError(f"{said}: {value!r} is no number; {_FORMS}") from None


def _checked(said: str, key: str, row: Setting | None, value: Any) -> Any:
    """Return a recipe's value as it is read from a command line; one of Ultralytics, asked later, as it is."""
    if row is None:
        return value
    read = row.read(f"{said}{key}", "null" if value is None else str(value))
    return None if read is OPEN else read
