"""A window on the screen, and what is said where there is none."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys

import cv2

from yolo_distill.errors import RequestError
from yolo_distill.runtime.letterbox import Picture

_QUIT_KEYS = {ord("q"), ord("Q"), 27}
# Qt ends the whole process when it cannot reach the screen; so a process of its own tries first.
_TRIAL = "import cv2; cv2.namedWindow('trial'); cv2.destroyAllWindows()"
_TRIAL_SECONDS = 30


class Screen:
    """One window.

    Attributes:
        title: what stands above it.
    """

    def __init__(self, title: str, instead: str) -> None:
        """Open the window.

        Args:
            title: what stands above it.
            instead: what to do where there is no screen, for the error.

        Raises:
            RequestError: there is no screen, or this OpenCV has no windows.
        """
        if reason := why_no_screen():
            raise RequestError(f"show=true: {reason}; use {instead}")
        self.title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        self._sized = False

    def show(self, image: Picture, wait_ms: int = 1) -> bool:
        """Show a picture for at least `wait_ms` milliseconds; return whether the user wants to go on."""
        if not self._sized:
            cv2.resizeWindow(self.title, image.shape[1], image.shape[0])
            self._sized = True
        cv2.imshow(self.title, image)
        return self.wait(wait_ms)

    def wait(self, wait_ms: int) -> bool:
        """Let the window live; return whether the user wants to go on: neither q nor Esc, window not closed."""
        if cv2.waitKey(wait_ms) & 0xFF in _QUIT_KEYS:
            return False
        # Before its first picture a window does not count as visible everywhere.
        return not self._sized or bool(cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1)

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


@functools.cache  # the trial takes half a second
def why_no_screen() -> str:
    """Return why no window can be shown here, or an empty text."""
    display = os.environ.get("DISPLAY")
    if platform.system() == "Linux" and not (display or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen (DISPLAY is not set)"
    screen = f"the screen DISPLAY={display}" if display else "the screen"
    try:
        trial = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"{screen} does not answer"
    if b"not implemented" in trial.stderr:
        return "this OpenCV has no windows (it is a headless build)"
    return f"{screen} cannot be used" if trial.returncode else ""
