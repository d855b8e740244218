"""Keeps OpenCV from printing what our errors say anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

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
