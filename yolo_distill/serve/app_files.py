"""The web app's own files, as they lie in `export/web/`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from yolo_distill.errors import DistillError

# What the app is built of, and nobody's browser asks for.
_NOT_SERVED = {"package.json", "package-lock.json", "ort.json"}
_REQUIRED = ("index.html", "sw.js")


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
