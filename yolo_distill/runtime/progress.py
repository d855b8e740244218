"""Says how far long work has come, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import cv2

_TERMINAL_SECONDS, _FILE_SECONDS = 0.2, 10.0


class Progress:
    """One line that rewrites itself on a terminal; elsewhere a line every ten seconds, so that logs stay short."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._every = _TERMINAL_SECONDS if self._terminal else _FILE_SECONDS
        self._said = time.monotonic() if not self._terminal else 0.0
        self._width = 0

    def report(self, text: str) -> None:
        """Say `text`, unless something was said just now."""
        now = time.monotonic()
        if now - self._said < self._every:
            return
        self._said = now
        if self._terminal:
            self._out.write(f"\r{text:<{self._width}}")
            self._width = len(text)
        else:
            self._out.write(f"{text}\n")
        self._out.flush()

    def say(self, text: str) -> None:
        """Say `text` on a line of its own, whatever was said before."""
        self.clear()
        self._out.write(f"{text}\n")
        self._out.flush()

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._terminal and self._width:
            self._out.write(f"\r{'':<{self._width}}\r")
            self._out.flush()
            self._width = 0


_SILENT = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Switch OpenCV's log off, for all threads; it is as it was afterwards."""
    # The function moved between OpenCV 4 and 5.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    before = set_level(_SILENT)
    try:
        yield
    finally:
        set_level(before)
