"""Pages in a browser, on a phone and on a desk, by day and by night."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Width of a phone and of a desk in pixels.
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")

# What is cut: wider than the page, or than the nearest thing around it that scrolls. A table may scroll, but not so far
# that its first two columns, by which it is read, do not fit beside each other.
_CUT = """() => {
  const cut = [];
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > room) cut.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const one of document.querySelectorAll("h1, h2, p, figure, img, canvas, table, dl, button, select")) {
    const { left, right, width } = one.getBoundingClientRect();
    if (width && !one.closest(".wide") && (left < -0.5 || right > room + 0.5)) cut.push(`${one.tagName} ${one.id}`);
  }
  for (const wide of document.querySelectorAll(".wide")) {
    const inner = wide.getBoundingClientRect();
    for (const row of wide.querySelectorAll("tr")) {
      const second = row.children[1].getBoundingClientRect();
      if (second.right > inner.right + 0.5) cut.push(`second column of "${row.textContent.trim().slice(0, 40)}"`);
    }
    const scrolls = getComputedStyle(wide).overflowX === "auto";
    if (!scrolls && wide.scrollWidth > wide.clientWidth) cut.push("a table that cannot be scrolled");
  }
  return cut;
}"""


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium; skip the test where it cannot be had."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is steered by playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def cut_off(page: Any) -> list[str]:
    """Return what of an open page is cut off."""
    return page.evaluate(_CUT)


def look_at(file: Path, out: Path) -> None:
    """Open a file in every width and scheme, leave a screenshot of each, and fail where something is cut off."""
    with browser() as chromium:
        for width in WIDTHS:
            for scheme in SCHEMES:
                context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
                page = context.new_page()
                page.goto(file.absolute().as_uri())
                page.screenshot(path=out / f"{file.stem}-{width}-{scheme}.png", full_page=True)
                assert cut_off(page) == [], (width, scheme)
                ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
                assert (sum(ground) > 600) == (scheme == "light")
                context.close()
