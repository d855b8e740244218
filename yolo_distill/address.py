"""What is not on this machine, such as s3://bucket/mine: read, written, and kept the same as a folder here."""

from __future__ import annotations

import glob
import json
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from yolo_distill.errors import DistillError, RequestError, one_line
from yolo_distill.files import is_address, partial_name, write_bytes

#: In the names of files that are many times as large as others.
WEIGHTS = "/weights/"

_JOURNAL, _COPIES = ".address.json", ".weights"
_ATTEMPTS = 3  # to copy weights while no epoch ends
#: Between two times that what goes on is put: seconds at least, and times what the last one took.
_PAUSE, _TIMES = 2.0, 10
#: What systems call that by which a file that was written anew is told, the surest first.
_VERSIONS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "created")
#: Names of files, each of which says that all that the ones before it are about is there.
_LAST = ("part-*.parquet", "run.json", "data.yaml")


class Address:
    """An address, as fsspec reads it; files there are called by their names below it."""

    def __init__(self, text: str, key: str = "out") -> None:
        """Take the address that the setting `key` has.

        Raises:
            RequestError: fsspec can't open such ones, for want of a package or at all.
        """
        import fsspec

        self.text, self.said = text, f"{key}={text}"
        folders = {"auto_mkdir": True} if text.startswith("file:") else {}
        try:
            self._system, self._root = fsspec.core.url_to_fs(text, use_listings_cache=False, **folders)
        except (ImportError, ValueError) as error:
            raise RequestError(f"{self.said}: can't be opened ({one_line(error)})") from error

    @property
    def folder(self) -> Path:
        """The folder below runs/ that stands for it here."""
        kind, _, path = self.text.partition("://")
        return Path("runs", kind, *path.strip("/").split("/"))

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Say in a line what went wrong there."""
        try:
            yield
        except DistillError:
            raise
        except Exception as error:  # each system has its own
            raise DistillError(f"{self.said}: can't be reached ({one_line(error)})") from error

    def require_writable(self) -> None:
        """Refuse one that can't be written, before the work.

        Raises:
            DistillError: it is one.
        """
        with self.reached():
            self._system.pipe_file(mark := f"{self._root}/.writable", b"")
            self._system.rm_file(mark)

    def find(self, below: str = "", depth: int | None = None) -> dict[str, Any]:
        """Return what is known of all files there, or of those in a folder there, by name; 1 deep those alone in it.

        Raises:
            DistillError: it can't be reached, or has a name that leads out of any folder.
        """
        with self.reached():
            found = self._system.find(f"{self._root}/{below}".rstrip("/"), maxdepth=depth, detail=True)
            there = {place.removeprefix(self._root).lstrip("/"): info for place, info in found.items()}
            if odd := next((name for name in there if Path(name).anchor or ".." in Path(name).parts), None):
                raise ValueError(f"{odd} would be written outside the folder")
        return there

    def listed(self) -> dict[str, int]:
        """Return the size of each file that the address names, by its own address: one, a folder's, or a pattern's.

        Raises:
            DistillError: it can't be reached.
        """
        found: dict[str, Any] = {}
        with self.reached(), suppress(FileNotFoundError):
            if glob.has_magic(self._root):
                found = self._system.glob(self._root, detail=True)
            else:  # of a file it is the file itself
                found = {one["name"]: one for one in self._system.ls(self._root, detail=True)}
        files = {name: info for name, info in found.items() if info["type"] != "directory"}  # a link is "other"
        return {self._system.unstrip_protocol(name): int(info["size"] or 0) for name, info in files.items()}

    def get(self, name: str, file: Path) -> bool:
        """Fetch a file, whole or not at all, and return whether it is there."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_name(file)
        try:
            with self.reached(), suppress(FileNotFoundError):
                self._system.get_file(f"{self._root}/{name}", str(partial))
                partial.replace(file)
                return True
        finally:
            partial.unlink(missing_ok=True)
        return False

    def put(self, file: Path, name: str) -> str:
        """Put a file, and return its version there."""
        with self.reached():
            self._system.put_file(str(file), place := f"{self._root}/{name}")
            return _version(self._system.info(place))

    def give(self, folder: Path) -> None:
        """Move all that is in a folder there, many files at a time, and last what says that the others are there.

        Raises:
            DistillError: it can't be reached; what is in the folder stays there then.
        """
        names = _names(folder)
        for last in (False, True):
            some = [name for name in names if bool(_order(name)[0]) is last]
            with self.reached():
                if some:
                    self._system.put([str(folder / name) for name in some], [f"{self._root}/{name}" for name in some])
        for name in names:
            (folder / name).unlink()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self.reached(), suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}")


class Mirror:
    """A folder here that is kept the same as one at an address.

    A journal in the folder says what each file was like on both sides when they were last the same: so what changed on
    one side since goes to the other one, and what went on one side goes on the other.
    """

    def __init__(self, address: Address, folder: Path | None = None) -> None:
        """Take the address, and the folder that stands for it here where it is another one than its own."""
        self.address, self.folder = address, folder or address.folder
        self._due = time.monotonic() + _PAUSE
        file = self.folder / _JOURNAL
        # By name: when it was changed here, its size, and what version it was there.
        self._journal: dict[str, list[Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def had(self, name: str) -> bool:
        """Return whether a file was on both sides."""
        return name in self._journal

    def fetch(self, there: Mapping[str, Any]) -> None:
        """Fetch what was changed of what `Address.find` found, and remove what went from folders that it found.

        Raises:
            DistillError: the address can't be reached.
        """
        try:
            for name in sorted(there, key=_order):
                version, file = _version(there[name]), self.folder / name
                same = file.is_file() and self._journal.get(name, [None])[-1] == version
                if not same and self.address.get(name, file):  # else it went there since
                    self._journal[name] = [*_here(file), version]
            folders = {_folder(name) for name in there}
            for name in [name for name in self._journal if name not in there]:
                file = self.folder / name
                if file.is_file() and _folder(name) in folders and _here(file) == self._journal[name][:2]:
                    file.unlink()
                if not file.is_file():  # it is not to go there because a person removed it here
                    del self._journal[name]
        finally:
            self._write_journal()

    def put(self, *, but: Collection[str] = (), at_once: bool = True) -> None:
        """Put what was changed here since there, and remove what went here; if not `at_once`, when it is time.

        Args:
            but: names of folders of which nothing is put.
            at_once: else it is put when it is time.

        Raises:
            DistillError: the address can't be reached.
        """
        if not at_once and time.monotonic() < self._due:
            return
        began, copies = time.monotonic(), self.folder / _COPIES
        names = [name for name in _names(self.folder) if name.split("/")[0] not in but]
        self._copy_weights([name for name in names if WEIGHTS in name])
        try:
            for name in names:
                file = (copies if WEIGHTS in name else self.folder) / name
                if file.is_file() and (here := _here(file)) != self._journal.get(name, [])[:2]:
                    self._journal[name] = [*here, self.address.put(file, name)]
                    self._write_journal()
            # As all was fetched before, it went since: the state behind an earlier epoch, or an earlier error.
            for name in [name for name in self._journal if name not in set(names) and name.split("/")[0] not in but]:
                self.address.remove(name)
                del self._journal[name]
                self._write_journal()
        except DistillError as error:
            if self.folder != self.address.folder:  # one of a moment
                raise
            said = f"what is done is kept in {self.folder}, and the same command goes on"
            raise DistillError(f"{error}; {said}") from error
        finally:
            shutil.rmtree(copies, ignore_errors=True)
            # Also where it can't be reached: it is not asked again and again.
            self._due = time.monotonic() + max(_PAUSE, _TIMES * (time.monotonic() - began))

    def _copy_weights(self, names: Sequence[str]) -> None:
        """Copy what is new of weights, all of one epoch, before anything is put: the rest is of that epoch or later.

        As weights are put last, what is there is at any moment what a run that is killed leaves.
        """
        for _ in range(_ATTEMPTS):
            shutil.rmtree(self.folder / _COPIES, ignore_errors=True)
            with suppress(FileNotFoundError):  # an epoch ended, and with it the state behind the one before
                before = {name: _here(self.folder / name) for name in names}
                for name in (name for name, here in before.items() if here != self._journal.get(name, [])[:2]):
                    (copy := self.folder / _COPIES / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.folder / name, copy)
                if all(_here(self.folder / name) == here for name, here in before.items()):
                    return

    def _write_journal(self) -> None:
        write_bytes(self.folder / _JOURNAL, json.dumps(self._journal).encode())


def download(files: Sequence[str], folder: Path, key: str) -> list[str]:
    """Return where files are here: where they were or, of addresses that `key=` named, in a folder.

    Raises:
        DistillError: an address can't be reached.
    """
    here = list(files)
    for kind in {file.partition("://")[0] for file in files if is_address(file)}:
        some = [number for number, file in enumerate(files) if file.startswith(f"{kind}://")]
        address = Address(files[some[0]], key)
        for number in some:
            here[number] = str(folder / f"{number}{Path(files[number]).suffix}")
        folder.mkdir(exist_ok=True)
        with address.reached():
            address._system.get([files[number] for number in some], [here[number] for number in some])
    return here


def _names(folder: Path) -> list[str]:
    """Return the names of all files in a folder but locks and hidden ones, in the order in which they are put."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted((name for name in names if "/." not in f"/{name}" and not name.endswith(".lock")), key=_order)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _here(file: Path) -> list[int]:
    return [(found := file.stat()).st_mtime_ns, found.st_size]


def _version(info: Mapping[str, Any]) -> str:
    return f"{next((info[key] for key in _VERSIONS if info.get(key)), '')} {info['size']}"


def _order(name: str) -> tuple[int, bool, str]:
    """Sort weights behind what is said of them, and what says that something is finished behind all that it has."""
    last = next((place for place, pattern in enumerate(_LAST, 1) if fnmatch(name.rpartition("/")[2], pattern)), 0)
    return last, WEIGHTS in name, name
