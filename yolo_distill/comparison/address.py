"""A comparison whose `out=` is an address, such as s3://bucket/compare: worked on in a folder here, and put there.

What another machine changed there is fetched when a command begins; what changed here is put while runs go on and as
they end. A journal in the folder says what each file was like on both sides when they were last the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from yolo_distill.comparison.runs import RECORD
from yolo_distill.errors import DistillError, RequestError, one_line
from yolo_distill.files import partial_name, write_bytes
from yolo_distill.lock import lock

_JOURNAL = ".address.json"
_SECONDS = 300.0  # between two times that what goes on is put
#: What systems call that by which a file that was written anew is told, the surest first.
_VERSIONS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "created")


class Address:
    """The address, and the `folder` below runs/ that stands for it here."""

    def __init__(self, out: str) -> None:
        """Take an address as fsspec reads it.

        Raises:
            RequestError: fsspec can't open such ones, for want of a package or at all.
        """
        import fsspec

        try:
            self._system, self._root = fsspec.core.url_to_fs(out, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise RequestError(f"out={out}: can't be opened ({one_line(error)})") from error
        kind, _, path = out.partition("://")
        self._out, self.folder, self._last = out, Path("runs", kind, *path.strip("/").split("/")), time.monotonic()
        file = self.folder / _JOURNAL
        # By name: when it was changed here, its size, and what version it was there.
        self._journal: dict[str, list[Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def fetch(self) -> None:
        """Fetch what was changed there since, and see that it can be written.

        Raises:
            RequestError: another process is at work in the folder here, whose files it would write over.
            DistillError: it can't be reached.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        busy = f"out={self._out}: another yolo-distill compare is at work in {self.folder}; wait for it"
        with lock(self.folder / ".lock", busy), self._reached():
            self._system.pipe_file(mark := f"{self._root}/.writable", b"")
            self._system.rm_file(mark)
            found = self._system.find(self._root, detail=True)
            there = {place.removeprefix(self._root).lstrip("/"): info for place, info in found.items()}
            if odd := next((name for name in there if Path(name).anchor or ".." in Path(name).parts), None):
                raise ValueError(f"{odd} would be written outside the folder")
            for name in sorted(there, key=_order):
                version, file = _version(there[name]), self.folder / name
                if not file.is_file() or self._journal.get(name, [None])[-1] != version:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._system.get_file(f"{self._root}/{name}", str(partial := partial_name(file)))
                    partial.replace(file)
                    self._note(name, _here(file), version)

    def put(self, *, at_once: bool = True) -> None:
        """Put what was changed here since there, and remove what went here; if not `at_once`, when it is time.

        Raises:
            DistillError: it can't be reached.
        """
        if not at_once and time.monotonic() - self._last < _SECONDS:
            return
        self._last = time.monotonic()  # also where it can't be reached: it is not asked again and again
        names = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        with self._reached():
            for name in sorted((name for name in names if "/." not in f"/{name}"), key=_order):
                file, place = self.folder / name, f"{self._root}/{name}"
                if file.is_file() and (here := _here(file)) != self._journal.get(name, [])[:2]:
                    self._system.put_file(str(file), place)
                    self._note(name, here, _version(self._system.info(place)))
            # As all was fetched before, it went since: the state behind an earlier epoch, or an earlier error.
            for name in sorted(self._journal.keys() - set(names)):
                with suppress(FileNotFoundError):
                    self._system.rm_file(f"{self._root}/{name}")
                del self._journal[name]
                self._write_journal()

    def _note(self, name: str, here: list[int], version: str) -> None:
        self._journal[name] = [*here, version]
        self._write_journal()

    def _write_journal(self) -> None:
        write_bytes(self.folder / _JOURNAL, json.dumps(self._journal).encode())

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each system has its own
            said = f"can't be reached ({one_line(error)}); what is done is kept in {self.folder}"
            raise DistillError(f"out={self._out}: {said}, and the same command goes on") from error


def _here(file: Path) -> list[int]:
    return [(found := file.stat()).st_mtime_ns, found.st_size]


def _version(info: dict[str, Any]) -> str:
    return f"{next((info[key] for key in _VERSIONS if info.get(key)), '')} {info['size']}"


def _order(name: str) -> tuple[bool, bool, str]:
    """Sort weights in front, and what says that a run is finished behind all that it has."""
    return name.endswith(RECORD), "/weights/" not in name, name
