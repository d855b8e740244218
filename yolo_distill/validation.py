"""YAML and JSON files, checked as they are read: what does not fit is said in one line, with its field."""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml

from yolo_distill.differences import shortened
from yolo_distill.errors import RequestError, did_you_mean

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_Schema = TypeVar("_Schema")

#: Most values in a YAML file, counted as often as aliases repeat them, and most bytes.
_MOST_VALUES, _MOST_BYTES = 1_000_000, 32 << 20


def read_yaml(file: Path, said: str) -> Any:
    """Return what a YAML file holds.

    Raises:
        RequestError: it cannot be read, or is not YAML, or of endless size; `said` is the setting that named it.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise RequestError(f"{said}: is a {'folder' if file.is_dir() else 'device or a pipe'}, not a YAML file")
        if file.stat().st_size > _MOST_BYTES:
            raise RequestError(f"{said}: has more than {_MOST_BYTES >> 20} MiB; is it a YAML file?")
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if node is not None and _values_of(node, {}) > _MOST_VALUES:  # before its aliases are followed
            raise RequestError(f"{said}: stands for more than {_MOST_VALUES:,} values; write it without its aliases")
        return None if node is None else loader.construct_document(node)
    except OSError as error:
        near = (found.name for found in file.parent.glob("*.y*ml")) if error.errno == errno.ENOENT else ()
        raise RequestError(f"{said}: cannot be read ({error.strerror}){did_you_mean(file.name, near)}") from None
    except RecursionError:
        raise RequestError(f"{said}: is not YAML that can be read (too many brackets in each other)") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # of a date or number that is none, too
        raise RequestError(f"{said}: is not YAML ({' '.join(str(error).split())[:300]})") from None


def _values_of(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node of YAML stands for."""
    if id(node) not in known:
        known[id(node)] = math.inf  # for one that is inside itself
        pairs = node.value if isinstance(node, yaml.CollectionNode) else []
        inside = [one for pair in pairs for one in (pair if isinstance(pair, tuple) else [pair])]
        known[id(node)] = 1 + sum(_values_of(one, known) for one in inside)
    return known[id(node)]


def read_json(file: Path, schema: type[_Schema], what: str) -> _Schema:
    """Return what a JSON file holds.

    Args:
        file: which is there.
        schema: a dataclass or a TypedDict, with its types.
        what: the file should be, such as `the plan of a comparison`.

    Raises:
        RequestError: it cannot be read, or a field of it is missing or of another type; names file and field.
    """
    from pydantic import ValidationError

    checker: TypeAdapter[_Schema] = _adapter(cast(Any, schema))  # mypy takes a class of any kind for unhashable
    try:
        # Not by pydantic's own parser: it refuses the escapes that stand for a path's bytes where they are no UTF-8.
        return checker.validate_python(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise RequestError(f"{file}: cannot be read ({error.strerror}); give another out=") from None
    except ValidationError as error:
        raise RequestError(f"{file}: is not {what} ({first_problem(error)}); give another out=") from None
    except (ValueError, RecursionError) as error:  # pydantic's is one as well, and stands above
        raise RequestError(f"{file}: is not {what} (no JSON: {error}); give another out=") from None


@cache
def _adapter(schema: type[Any]) -> TypeAdapter[Any]:
    """Return what checks a schema; made once, as a data set may have thousands of shards to read."""
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def described(error: ValidationError, known: Iterable[str]) -> tuple[str, str, Any, str, str]:
    """Return the first thing that is wrong: pydantic's type of it, field, what was there, what should be, and a hint.

    The field has points between names of what lies in each other, and is empty where the error is about several; what
    should be there may be a sentence of ours.

    Args:
        error: of pydantic.
        known: names that a field may have.
    """
    first = error.errors(include_url=False)[0]
    context, field = first.get("ctx", {}), ".".join(map(str, first["loc"]))
    text = str(context["error"]) if first["type"] == "value_error" else first["msg"][:1].lower() + first["msg"][1:]
    expected = re.findall(r"'([^']+)'", str(context.get("expected", "")))
    unknown = first["type"] == "extra_forbidden"
    hint = did_you_mean(field, known) if unknown else did_you_mean(str(first["input"]), expected)
    return first["type"], field, first["input"], text, hint


def first_problem(error: ValidationError, known: Iterable[str] = ()) -> str:
    """Return the first thing that is wrong in one line; see `described`."""
    kind, field, value, text, hint = described(error, known)
    if kind == "missing":
        return f"it lacks {field}"
    if kind == "extra_forbidden":
        return f"{field} is unknown{hint}"
    received = shortened(repr(value))
    return f"{field + ': ' if field else ''}{text}, received {received}{hint}"
