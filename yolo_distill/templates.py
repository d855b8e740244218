"""Pages out of templates: whatever is put into one is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def fill_in(template: Path, **values: Any) -> Iterator[str]:
    """Yield a page in pieces, so that what is taken from a generator is in memory one by one.

    Args:
        template: a Jinja file; what it includes lies beside it.
        values: by name. A string is text, never markup.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).generate(**values)
