"""What two requests that should be the same do not agree in, in words."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_MOST = 4
_LONGEST = 60  # of a value that is quoted


def differs(there: Any, here: Any) -> bool:
    """Return whether two values differ once both are JSON, which one of them has been through: it knows no tuples."""
    return json.dumps(there, sort_keys=True) != json.dumps(here, sort_keys=True)


def changed_values(there: Mapping[str, Any], here: Mapping[str, Any], ignored: Collection[str] = ()) -> list[str]:
    """Return a line for each key whose values differ."""
    return [
        f"{key}: {_quoted(there.get(key))} there, {_quoted(here.get(key))} here"
        for key in sorted({*there, *here} - {*ignored})
        if differs(there.get(key), here.get(key))
    ]


def changed_file(role: str, there: Mapping[str, Any] | None, here: Mapping[str, Any] | None) -> list[str]:
    """Return a line if two files are not the same, which is known by content: one that was only moved is.

    Args:
        role: what the file is for.
        there: its `name` and `digest`, which is None for what has no file; None without one.
        here: the same of the other.
    """
    before, now = ((one or {}).get("name") for one in (there, here))
    if there and here:
        if there["digest"] == here["digest"] and (before == now or there["digest"] is not None):
            return []
        if before == now:
            return [f"{role}: {now} was changed"]
    return changed_values({role: before}, {role: now})


def in_brief(found: Sequence[str]) -> str:
    """Return the first lines as one, and how many more there are."""
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return "; ".join(found[:_MOST]) + more


def _quoted(value: Any) -> str:
    return "not given" if value is None else shortened(json.dumps(value, ensure_ascii=False).replace('"', ""))


def shortened(text: str) -> str:
    """Return a value that is quoted in an error, cut off where it is long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
