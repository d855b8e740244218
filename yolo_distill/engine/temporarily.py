"""Attributes of the host's that have another value for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def temporarily(target: Any, **values: Any) -> Iterator[None]:
    """Set attributes of a trainer or of its arguments; at the end what was there is back, and what was not is gone."""
    attributes = vars(target)
    before = {key: attributes[key] for key in values if key in attributes}
    attributes.update(values)
    try:
        yield
    finally:
        for key in values.keys() - before.keys():
            del attributes[key]
        attributes.update(before)
