"""What is served now: app, runtime and a model that may be replaced while pages are open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from yolo_distill.errors import DistillError
from yolo_distill.serve.model import Model, Signature, read_model, signature
from yolo_distill.serve.routes import Table, make_table

# What the app is built of, and nobody's browser asks for.
_NOT_SERVED = {"package.json", "package-lock.json", "ort.json"}
_REQUIRED = ("index.html", "sw.js")


class Site:
    """Holds the table; a new visit gets the model of now, a page that is open still gets the one before."""

    def __init__(self, app: Mapping[str, bytes], ort: Mapping[str, bytes], model: Model) -> None:
        self._app, self._ort, self._model = app, ort, model
        self._table = make_table(app, ort, model)

    def table(self) -> Table:
        """Return the table of now; it never changes, another one takes its place."""
        return self._table

    def replace(self, model: Model) -> bool:
        """Serve `model` from now on; return whether it is another one."""
        if (model.sha256, model.name) == (self._model.sha256, self._model.name):
            return False
        self._table = make_table(self._app, self._ort, model, before=self._model)
        self._model = model
        return True


class Watch:
    """Checks the model's file every second, in a thread; what cannot be served is said once, and changes nothing."""

    def __init__(
        self, path: Path, served: Signature, site: Site, say: Callable[[str], None], seconds: float = 1.0
    ) -> None:
        """Take the file, and its signature from before it was read; `say` gets a line for whatever happens to it."""
        self._path, self._site, self._say, self._seconds = path, site, say, seconds
        self._served = self._before = served
        self._ended = threading.Event()

    def start(self) -> None:
        """Check from now on, until the process ends or `stop` is called."""
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def stop(self) -> None:
        """Check no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.check()

    def check(self) -> None:
        """Check once. A change counts when it is there twice in a row: until then, somebody is still writing."""
        now = signature(self._path)
        settled, self._before = now == self._before, now
        if now == self._served or not settled:
            return
        self._served = now
        if now is None:
            self._say(f"{self._path}: is gone; the last good one goes on")
            return
        try:
            model = read_model(self._path)
        except DistillError as error:
            self._say(f"{error}; the last good one goes on")
        except Exception as error:  # of onnxruntime or of the disk; the server must not lose its watch over it
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._say(f"{self._path}: {text}; the last good one goes on")
        else:
            if self._site.replace(model):
                self._say(f"{self._path}: was replaced; new visits get the new one ({model.size})")


def read_app(web: Path) -> dict[str, bytes]:
    """Return address to bytes of every file of the app.

    Raises:
        DistillError: the app is not there, or cannot be read.
    """
    files: dict[str, bytes] = {}
    try:
        for path in sorted(web.rglob("*")):
            inside = path.relative_to(web)
            hidden = any(part.startswith(".") or part == "node_modules" for part in inside.parts)
            if not hidden and inside.as_posix() not in _NOT_SERVED and path.is_file():
                files[quote(inside.as_posix())] = path.read_bytes()
    except OSError as error:
        raise DistillError(f"{error.filename or web}: cannot be read ({error.strerror})") from error
    if missing := [name for name in _REQUIRED if name not in files]:
        raise DistillError(f"{web}: the web app lacks {', '.join(missing)}; install yolo-distill again")
    return files
