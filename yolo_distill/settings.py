"""`key=value` settings of a command: a table of them gives parsing, `--help` and every error about a key or a value."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolo_distill.errors import RequestError, did_you_mean

TRUE, FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
_HOST_WORDS = {"none": None, "true": True, "false": False}
#: What `null` is read as where it is a value: left open, whatever a recipe says.
OPEN: Any = object()


@dataclass(frozen=True)
class Setting:
    """One `key=value` setting.

    Attributes:
        kind: `bool`, `int`, `float` or `str`; what the text after `=` is read as.
        help: one line for `--help`.
        default: value when the key is not given; `None` means "not set".
        required: whether the command cannot run without it.
        choices: the only values allowed, if any.
        low: smallest number allowed, inclusive.
        high: largest number allowed, inclusive.
        above: bound from below that is not allowed itself.
        below: bound from above that is not allowed itself.
        nullable: whether `null` is a value, `OPEN`, rather than another word for "not given".
        per_term: whether a recipe holds one value for each distillation term, as the default then does.
        shown: default for `--help` where it is not this table that holds it.
        alone: what a word without `key=` looks like that can be this setting, as a regular expression; "" for none.
        several: whether it takes several such words, which are then put together with commas.
    """

    kind: type
    help: str
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    nullable: bool = False
    per_term: bool = False
    shown: Any = None
    alone: str = ""
    several: bool = False

    def read(self, key: str, text: str) -> Any:
        """Return `text` as this setting's kind; refuse what is of another, not among the choices or out of range."""
        value = self._convert(key, text)
        if value is None or value is OPEN:
            return value
        if self.choices:
            if (choice := self.chosen(value)) in self.choices:
                return choice
            allowed = [_word(choice) for choice in self.choices]
            raise RequestError(f"{key}={text}: not one of {', '.join(allowed)}{did_you_mean(text.lower(), allowed)}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not self._holds(value):
                raise RequestError(f"{key}={text}: must be {self._bounds()}")
            if isinstance(value, float) and not math.isfinite(value):
                raise RequestError(f"{key}={text}: must be a finite number")
        return value

    def chosen(self, value: Any) -> Any:
        """Return the choice that is meant, as `nms=False` and `nms=false` are the same wish; else the value itself."""
        return next((choice for choice in self.choices if str(choice).lower() == str(value).lower()), value)

    def _holds(self, value: float) -> bool:
        # Written so that nan, which compares false with everything, is refused as well.
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _bounds(self) -> str:
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        bounds = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)

    def _convert(self, key: str, text: str) -> Any:
        if self.nullable and text.lower() in {"none", "null"}:
            return OPEN
        if self.default is None and not self.required and text.lower() in {"none", "null", ""}:
            return None
        if self.kind is bool:
            if text.lower() in TRUE | FALSE:
                return text.lower() in TRUE
            raise RequestError(f"{key}={text}: expected true or false")
        try:
            return self.kind(text)
        except ValueError:
            kinds = {int: "a whole number", float: "a number"}
            raise RequestError(f"{key}={text}: expected {kinds.get(self.kind, self.kind.__name__)}") from None


def host_settings(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that pass through to the host, text among them read as its command line reads it.

    Three departures: devices without brackets, `0,1`, stay text, as the host's workers take a list of devices; so do
    names, as a run may be called 2024 or 1e-3; and `freeze=0,1` is a list, as the host passes over other sequences.

    Raises:
        RequestError: a key without a value.
    """
    values: dict[str, Any] = {}
    for key, text in pairs.items():
        if text == "":
            raise RequestError(f"{key}= has no value")
        if not isinstance(text, str):
            values[key] = text
            continue
        value = _evaluate(text)
        stays = key in {"name", "project"} or (key == "device" and isinstance(value, tuple))
        values[key] = text if stays and value is not None else value
    if isinstance(layers := values.get("freeze"), tuple):
        values["freeze"] = list(layers)
    return values


def _evaluate(text: str) -> Any:
    if text.lower() in _HOST_WORDS:
        return _HOST_WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def resolve(pairs: Mapping[str, str], table: Mapping[str, Setting]) -> dict[str, Any]:
    """Return every key of the table with its value: what is given in `pairs`, or the default.

    Raises:
        RequestError: an unknown key, a bad value, or a required key that is missing.
    """
    for key in pairs:
        if key not in table:
            raise RequestError(f"unknown key {key!r}{did_you_mean(key, table)} (known: {', '.join(table)})")
    for key, setting in table.items():
        if setting.required and not pairs.get(key):
            raise RequestError(f"{key}= is missing: {setting.help}")
    return {key: s.read(key, pairs[key]) if key in pairs else s.default for key, s in table.items()}


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of resolved settings that were given; None for one that was given as open."""
    return {key: None if value is OPEN else value for key, value in settings.items() if value is not None}


def explain(table: Mapping[str, Setting], groups: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return one line per setting for `--help`, under headings if there are some.

    Args:
        table: the settings; those of a single term, such as `share.logit`, are left to the line of `share`.
        groups: heading to keys.
    """
    shown = {key: setting for key, setting in table.items() if "." not in key}
    width = max(map(len, shown), default=0) + 1
    lines = {key: f"  {key + '=':<{width}}  {_help(setting)}" for key, setting in shown.items()}
    if groups is None:
        return "\n".join(lines.values())
    return "\n\n".join("\n".join([f"{heading}:", *map(lines.__getitem__, keys)]) for heading, keys in groups.items())


def _help(setting: Setting) -> str:
    line, default = setting.help, setting.shown if setting.default is None else setting.default
    if setting.choices:
        line += f" [{'|'.join(map(_word, setting.choices))}]"
    if setting.required:
        line += " (required)"
    elif default is not None:
        line += f" (default {_word(default)})"
    return line


def _word(value: Any) -> str:
    """Return a value as it is typed."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
