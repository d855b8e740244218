"""What may be typed, or given in Python, for `key=value`: `best.pt`, `--epochs 3`, `half=True`, lists, a `YOLO`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from types import ModuleType
from typing import Any

from yolo_distill.errors import RequestError
from yolo_distill.given_files import find_data_file
from yolo_distill.host_keys import check_host_keys, host_defaults
from yolo_distill.settings import FALSE, TRUE, Setting, resolve

#: For each key of another program what is to be given instead, by value; `*` is any value, "" nothing at all.
Also = Mapping[str, Mapping[str, str]]

#: `weights=` where there is a `model=`.
WEIGHTS: Also = {"weights": {"*": "model=*"}}

#: How words look that can be a data set, and those that can be a model or something to look at beside one.
DATA, NO_DATA = r"\.ya?ml$", r"^(?!.*\.ya?ml$)."

#: What `yolo` wants to be told.
TASKS = ("detect", "segment", "pose", "obb", "classify")

_SWITCH = Setting(bool, "")
_PAIR = re.compile(r"-*[A-Za-z_][\w.-]*=")


def read_words(words: Sequence[str], name: str, table: Mapping[str, Setting]) -> dict[str, str]:
    """Return the pairs that the words of a command line mean; a later word for the same key wins.

    `key=value`, `key = value`, `--key=value`, `--key value`, `--switch`, and a path alone where one key can take it.

    Args:
        words: behind the command.
        name: of the command.
        table: settings that may be told by how a path ends, or that are switches.

    Raises:
        RequestError: a word that means nothing, or that could mean several things; says what to type.
    """
    pairs: dict[str, str] = {}
    alone: list[str] = []
    queue = _joined(words)
    while queue:
        word = queue.pop(0)
        key, equals, value = word.partition("=")
        dashed = key.startswith("-") and bool(key.strip("-"))
        key = key.lstrip("-").replace("-", "_")
        if equals and key:
            pairs[key] = value
        elif dashed and not equals:
            pairs[key] = _value_behind(queue, key, table)
        else:
            alone.append(word)
    for word in alone:
        key = _key_of(word, name, table, pairs)
        pairs[key] = f"{pairs[key]},{word}" if key in pairs else word
    return pairs


def switches(command: ModuleType) -> dict[str, Setting]:
    """Return the keys of other programs that are true when they stand alone: `--half`, and `--resume` of the host."""
    also = [key for key, lines in getattr(command, "ALSO", {}).items() if "true" in lines]
    host = host_defaults() if getattr(command, "PASSES_HOST_SETTINGS", False) else {}
    return dict.fromkeys([*also, *(key for key, value in host.items() if value is False or value is True)], _SWITCH)


def task_given(task: str, name: str) -> RequestError:
    """Return the error for a task in front of a command, or behind it, as `yolo` has it."""
    return RequestError(f"{task!r}: the task is found from the files; leave it out: yolo-distill {name} key=value ...")


def _joined(words: Sequence[str]) -> list[str]:
    """Return the words with `key = value` as one."""
    found: list[str] = []
    for word in words:
        if found and len(found) > 1 and found[-1] == "=":
            found[-2:] = [f"{found[-2]}={word}"]
        else:
            found.append(word)
    return found


def _value_behind(queue: list[str], key: str, table: Mapping[str, Setting]) -> str:
    """Take the value of `--key` from the words behind it; a switch needs none."""
    switch = key in table and table[key].kind is bool
    value = queue[0] if queue and not queue[0].startswith("--") and not _PAIR.match(queue[0]) else None
    if switch and (value is None or value.lower() not in TRUE | FALSE):
        return "true"
    if value is None:
        raise RequestError(f"--{key.replace('_', '-')} has no value; type {key}=VALUE")
    return queue.pop(0)


def _key_of(word: str, name: str, table: Mapping[str, Setting], pairs: dict[str, str]) -> str:
    """Return the key that a word alone is the value of."""
    if word in table:
        raise RequestError(f"{word!r} has no value; type {word}={'true' if table[word].kind is bool else 'VALUE'}")
    fit = [key for key, setting in table.items() if setting.alone and re.search(setting.alone, word, re.IGNORECASE)]
    free = [key for key in fit if key not in pairs or table[key].several]
    if len(free) == 1:
        return free[0]
    if free:
        either = " or ".join(f"{key}=" for key in free)
        raise RequestError(f"{word!r} can be {either}; type one, such as: yolo-distill {name} {free[0]}={word}")
    if fit:
        raise RequestError(f"{word!r} is one too many: {fit[0]}={pairs[fit[0]]} is given; a pattern goes in quotes")
    if word in TASKS:
        raise task_given(word, name)
    raise RequestError(f"{word!r} is not of the form key=value")


def read_values(values: Mapping[str, Any], table: Mapping[str, Setting]) -> dict[str, Any]:
    """Return keyword arguments as what would be typed for them; those that are no command's own stay what they are.

    None leaves a setting out, or open where it can be.

    Raises:
        RequestError: a value that cannot be typed.
    """
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        setting = table.get(key)
        if value is None:
            pairs |= {key: None} if setting is None else {key: "null"} if setting.nullable else {}
        elif setting is None:
            pairs[key] = file_of(key, os.fspath(value) if isinstance(value, os.PathLike) else value)
        elif setting.per_term and isinstance(value, Mapping):
            pairs |= {f"{key}.{term}": _text(key, one) for term, one in value.items()}
        else:
            pairs[key] = _text(key, value)
    return pairs


def _text(key: str, value: Any) -> str:
    value = file_of(key, value)
    if hasattr(value, "tolist"):  # a number of numpy or torch, or several
        value = value.tolist()
    if isinstance(value, (str, os.PathLike)):
        return str(os.fspath(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, range)):
        return ",".join(_text(key, one) for one in value)
    if isinstance(value, Number) or type(value).__name__ == "device":
        return str(value)
    raise RequestError(f"{key}=: takes text, a number, true or false, a path or a list of them; got {_kind(value)}")


def file_of(key: str, value: Any) -> Any:
    """Return the file of a `YOLO` of Ultralytics, and a path as text; anything else as it is.

    Relies on: the model of a checkpoint has its file as `pt_path`, also where a training left it, and `YOLO.ckpt_path`
    is any other file that was opened; `YOLO.cfg` is the architecture that was built, and `overrides["model"]` as well
    until it is trained, with `YOLO.ckpt` empty until it is given weights by `load`.

    Raises:
        RequestError: a model without a file.
    """
    if not (hasattr(value, "ckpt_path") and hasattr(value, "task")):
        if hasattr(value, "state_dict"):
            raise RequestError(
                f"{key}=: takes a file or a YOLO of Ultralytics; got {_kind(value)}: save it, name the file"
            )
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    file = getattr(value.model, "pt_path", None) or value.ckpt_path
    if value.cfg is not None and value.overrides.get("model") == value.cfg:
        file = None if value.ckpt else value.cfg
    if file is None:
        raise RequestError(f"{key}=: a YOLO whose weights are in no file; save it first: model.save('{key}.pt')")
    return str(file)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def arguments(command: ModuleType, pairs: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return what a command is called with: its settings, checked, and those that pass through to Ultralytics.

    Raises:
        RequestError: an unknown key, a bad value, a required key that is missing, or no such file.
    """
    table: Mapping[str, Setting] = command.SETTINGS
    pairs = _translated(pairs, table, getattr(command, "ALSO", {}))
    if look := getattr(command, "LOOK_FIRST", None):
        look(pairs)
    passes = getattr(command, "PASSES_HOST_SETTINGS", False)
    rest = {key: value for key, value in pairs.items() if passes and key not in table}
    if passes:
        check_host_keys(rest, table, getattr(command, "NOT_HERE", {}))
    settings = resolve({key: value for key, value in pairs.items() if key not in rest}, table)
    if data := settings.get("data") or rest.get("data"):
        find_data_file(data)  # before the seconds that torch takes
    return (settings, rest) if passes else (settings,)


def _translated(pairs: Mapping[str, Any], table: Mapping[str, Setting], also: Also) -> dict[str, Any]:
    """Return pairs with keys of other programs as the command's own.

    Raises:
        RequestError: a value that means nothing here, or that contradicts what is given besides.
    """
    found = {key: value for key, value in pairs.items() if key in table or key not in also}
    for key, value in pairs.items():
        if key in found or value is None:
            continue
        word = _text(key, value).lower()
        if "true" in also[key]:
            word = "true" if word in TRUE else "false" if word in FALSE else word
        line = also[key].get(word, also[key].get("*"))
        if line is None:
            known = " or ".join(dict.fromkeys(filter(None, also[key].values())))
            raise RequestError(f"{key}={value}: is not known here; type {known}")
        own, _, meant = line.partition("=")
        meant = meant.replace("*", _text(key, value))
        if own and found.setdefault(own, meant) != meant:
            raise RequestError(f"{key}={value}: means {own}={meant}, and {own}={found[own]} is given; leave one out")
    return found
