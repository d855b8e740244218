"""No colour codes where output goes into a file or a pipe; Ultralytics writes them wherever it goes."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class PlainStream:
    """A stream without escape sequences; of a line that is drawn over and over, as a bar is, it gets the last state."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = ""

    def write(self, text: str) -> int:
        """Write what would stay on a terminal."""
        *lines, last = (self._drawn + _ESCAPE.sub("", text)).split("\n")
        self._drawn = f"\r{last.rpartition(chr(13))[2]}" if "\r" in last else ""
        ended = "".join(line.removesuffix("\r").rpartition("\r")[2] + "\n" for line in lines)
        self._stream.write(ended if self._drawn else ended + last)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write all of `lines`."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Keep escape sequences out of stdout and stderr, each where it is no terminal.

    Relies on: the host's logger is called `ultralytics` and holds the stdout that was there at its import; its bars
    write to the one of the moment.
    """
    before = sys.stdout, sys.stderr
    after = tuple(cast("TextIO", stream if stream.isatty() else PlainStream(stream)) for stream in before)
    _point_output(before, after)
    try:
        yield
    finally:
        for stream in after:
            if isinstance(stream, PlainStream) and stream._drawn:
                stream.write("\n")
        _point_output(after, before)


def _point_output(old: tuple[TextIO, ...], new: tuple[TextIO, ...]) -> None:
    sys.stdout, sys.stderr = new
    for handler in logging.getLogger("ultralytics").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in old:
            handler.setStream(new[old.index(handler.stream)])
