"""A page of the web app, as a visitor has it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from yolo_distill import Detections

_LONG_TASKS = """
globalThis.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask" });
"""
_DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
_FOUND = """() => {
  const { xyxy, scores, classId } = app.view.shown.found;
  return [Array.from(xyxy), Array.from(scores), Array.from(classId), app.model.names];
}"""
_KINDS = {".png": "image/png", ".webm": "video/webm", ".onnx": "application/octet-stream"}


class Visit:
    """A visitor's page.

    Attributes:
        page: playwright's page.
        errors: what the page complained of.
        origins: where it asked for anything.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.errors: list[str] = []
        self.origins: set[str] = set()
        self._context = context
        context.on("request", lambda request: self.origins.add(request.url))
        self.page = context.new_page()
        self.page.add_init_script(_LONG_TASKS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type in {"error", "warning"} else None
        )
        self.page.goto(url)

    def close(self) -> None:
        self._context.close()

    def until(self, condition: str, seconds: float = 60) -> None:
        """Wait for a condition; playwright's own way needs `eval`, which the page forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"(async () => Boolean({condition}))()"):
            assert time.monotonic() < end, f"{condition} did not come about; {self.notice()}; {self.errors}"
            time.sleep(0.05)

    def ready(self) -> Visit:
        """Wait for the model, or for the reason why there is none."""
        self.until("document.documentElement.dataset.ready || !document.getElementById('notice').hidden")
        self.page.evaluate("app.onfound = () => { globalThis.answers = (globalThis.answers ?? 0) + 1; }; 0")
        return self

    def drop(self, path: Path) -> None:
        """Drop a file onto the page."""
        data = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(_DROP, [path.name, _KINDS[path.suffix], data])

    @contextmanager
    def answering(self, count: int = 1) -> Iterator[None]:
        """Wait until the page has found what is in so many more frames than before the block."""
        before = self.page.evaluate("globalThis.answers ?? 0")
        yield
        self.until(f"(globalThis.answers ?? 0) >= {before + count} || !document.getElementById('notice').hidden")
        assert self.notice() == ""

    def look_at(self, picture: Path) -> Detections:
        """Drop a picture and return what is found in it."""
        with self.answering():
            self.drop(picture)
        return self.found()

    def until_kept(self) -> None:
        """Wait until the service worker has all that the page needs without a network."""
        self.until("navigator.serviceWorker.controller")
        self.until("await caches.match('ort/ort-wasm-simd-threaded.wasm')")

    def found(self) -> Detections:
        """Return what is shown."""
        boxes, scores, classes, names = self.page.evaluate(_FOUND)
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(classes, np.int64),
            dict(enumerate(names)),
        )

    def notice(self) -> str:
        """Return what the page says went wrong."""
        shown = self.page.locator("#notice").is_visible()
        return str(self.page.inner_text("#notice-text")) if shown else ""

    def text(self, name: str) -> str:
        """Return the text of an element."""
        return str(self.page.text_content(f"#{name}"))

    def strangers(self) -> list[str]:
        """Return addresses of other origins that were asked for anything."""
        home = urlsplit(self.page.url).netloc
        return [
            url for url in self.origins if urlsplit(url).scheme not in {"blob", "data"} and urlsplit(url).netloc != home
        ]
