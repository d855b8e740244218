"""Files that were written earlier, checked as they are read: what does not fit is said in one line, with its field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from yolo_distill.differences import shortened
from yolo_distill.errors import RequestError, did_you_mean

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_Schema = TypeVar("_Schema")


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: is not {what} (no JSON: {error}); give another out=") from None
    except ValidationError as error:
        raise RequestError(f"{file}: is not {what} ({first_problem(error)}); give another out=") from None


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
