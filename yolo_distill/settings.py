"""`key=value` settings of a command: declared once, read from strings, checked, explained.

A command declares its settings as a table; parsing, `--help` and every error about a key or a value come from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from yolo_distill.errors import RequestError, did_you_mean

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


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
    """

    kind: type
    help: str
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    def read(self, key: str, text: str) -> Any:
        """Return `text` as this setting's kind.

        Raises:
            RequestError: the text is of another kind, not among the choices, or out of range.
        """
        value = self._convert(key, text)
        if self.choices and value not in self.choices:
            allowed = ", ".join(map(str, self.choices))
            raise RequestError(f"{key}={text}: not one of {allowed}{did_you_mean(text, map(str, self.choices))}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # Written so that nan, which compares false with everything, is refused as well.
            low, high = self.low, self.high
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                bounds = f"between {low:g} and {high:g}" if low is not None and high is not None else (
                    f"at least {low:g}" if low is not None else f"at most {high:g}"
                )
                raise RequestError(f"{key}={text}: must be {bounds}")
        return value

    def _convert(self, key: str, text: str) -> Any:
        if self.default is None and not self.required and text.lower() in {"none", "null", ""}:
            return None
        if self.kind is bool:
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
            raise RequestError(f"{key}={text}: expected true or false")
        try:
            return self.kind(text)
        except ValueError:
            kinds = {int: "a whole number", float: "a number"}
            raise RequestError(f"{key}={text}: expected {kinds.get(self.kind, self.kind.__name__)}") from None


def split_pairs(words: Sequence[str]) -> dict[str, str]:
    """Split command-line words of the form `key=value`; a later word for the same key wins.

    Raises:
        RequestError: a word has no `=` or no key.
    """
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.lstrip("-").replace("-", "_")
        if not equals or not key:
            raise RequestError(f"{word!r} is not of the form key=value")
        pairs[key] = value
    return pairs


def literal(text: str) -> Any:
    """Return `text` as the host's command line would read it: number, bool, None, list, or the text itself."""
    if text.lower() == "none":
        return None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 takes "1e-3" for a word
        try:
            return float(value) if value[:1] in "+-.0123456789" else value
        except ValueError:
            return value
    return value if isinstance(value, (bool, int, float, list)) else text


def resolve(pairs: Mapping[str, str], table: Mapping[str, Setting]) -> dict[str, Any]:
    """Check `pairs` against `table` and fill in the defaults.

    Returns:
        every key of the table with its value.

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


def explain(table: Mapping[str, Setting]) -> str:
    """Return one line per setting for `--help`."""
    width = max(map(len, table), default=0) + 1
    lines = []
    for key, setting in table.items():
        default = "required" if setting.required else f"default {setting.default}"
        choices = f" [{'|'.join(map(str, setting.choices))}]" if setting.choices else ""
        lines.append(f"  {key + '=':<{width}}  {setting.help}{choices} ({default})")
    return "\n".join(lines)
