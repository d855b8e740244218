"""What is served: an exact table of address and bytes. What is not in it does not exist.

Everything is held in memory, so that what is sent is what was hashed, whatever happens to the files meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from yolo_distill.serve.model import Model

_REVALIDATE = "no-cache"
IMMUTABLE = "public, max-age=31536000, immutable"

# Not Python's mimetypes: it reads tables of the machine, in which .js may be anything.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
_WORKER = "sw.js"
_FILES = "files.json"


@dataclass(frozen=True)
class Entry:
    """One file as it is served."""

    body: bytes
    kind: str
    cache: str = _REVALIDATE

    @cached_property
    def sha256(self) -> str:
        """Return the checksum of the body, in hex."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def etag(self) -> str:
        """Return the strong entity tag, in its quotes."""
        return f'"{self.sha256[:32]}"'


@dataclass(frozen=True)
class Table:
    """Address to file, for one model.

    Attributes:
        entries: path from the root, without the leading slash, to file; `index.html` is the root as well.
        version: hash over everything, 16 hex digits.
    """

    entries: Mapping[str, Entry]
    version: str

    def find(self, path: str) -> Entry | None:
        """Return what is at `path` of a request, which begins with a slash."""
        return self.entries.get("index.html" if path == "/" else path[1:])


def make_table(app: Mapping[str, bytes], ort: Mapping[str, bytes], model: Model, before: Model | None = None) -> Table:
    """Return the table of an app, a runtime and a model.

    Args:
        app: the app's files by address; `__VERSION__` in `sw.js` becomes the version.
        ort: files of onnxruntime-web by name.
        model: the detector.
        before: the one that it replaces: pages that are open have read its address already.
    """
    entries = {address: Entry(body, _kind(address)) for address, body in app.items()}
    entries |= {f"ort/{name}": Entry(body, _kind(name)) for name, body in ort.items()}
    entries[model.address] = Entry(model.data, "application/octet-stream", IMMUTABLE)
    version = _version(entries, model.name)
    if _WORKER in entries:
        entries[_WORKER] = Entry(app[_WORKER].replace(b"__VERSION__", version.encode()), _kind(_WORKER))
    about = {
        "version": version,
        # The worker and this list are what a browser asks for to learn of a new version, never what it keeps.
        "app": ["./", *sorted(address for address in app if address not in {"index.html", _WORKER})],
        "ort": sorted(f"ort/{name}" for name in ort),
        "model": {"url": model.address, "name": model.name, "bytes": len(model.data), "sha256": model.sha256},
    }
    entries[_FILES] = Entry(json.dumps(about, indent=1, ensure_ascii=False).encode(), _kind(_FILES))
    if before is not None and before.address not in entries:
        entries[before.address] = Entry(before.data, "application/octet-stream", IMMUTABLE)
    return Table(entries, version)


def _kind(address: str) -> str:
    return _TYPES.get(PurePosixPath(address).suffix.lower(), "application/octet-stream")


def _version(entries: Mapping[str, Entry], name: str) -> str:
    whole = hashlib.sha256(name.encode())
    for address in sorted(entries):
        whole.update(f"\0{address}\0{entries[address].sha256}".encode())
    return whole.hexdigest()[:16]
