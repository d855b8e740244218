"""No screen is an error, not the end of the process."""

from __future__ import annotations

import sys

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.runtime.window import Screen, why_no_screen

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a screen")


@pytest.fixture(autouse=True)
def _forget():
    why_no_screen.cache_clear()
    yield
    why_no_screen.cache_clear()


@pytest.mark.parametrize(
    ("display", "said"),
    [(None, "there is no screen (DISPLAY is not set)"), (":987", "the screen DISPLAY=:987 cannot be used")],
)
def test_no_screen(monkeypatch, display, said):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    assert why_no_screen() in {said, "this OpenCV has no windows (it is a headless build)"}
    with pytest.raises(RequestError, match=r"show=true: .*; use show=false save=out\.mp4"):
        Screen("title", "show=false save=out.mp4")
