"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from yolo_distill.errors import DistillError, RequestError

#: Bytes of a name that leave room for more: most disks take 255 in all.
_LONGEST_STEM = 200
_A_DAY = 24 * 60 * 60
_LITTLE = 1 << 16  # bytes of a disk below which it is tried out


def partial_name(path: Path) -> Path:
    """Return the name under which `path` is written: hidden, in the same folder, with the same suffix."""
    return path.with_name(f".{_short_stem(path)}.{_machine()}.{os.getpid()}.part{path.suffix}")


@functools.cache
def _machine() -> str:
    """Return a word for this machine or container: processes of two may have the same number."""
    space = Path("/proc/self/ns/pid")
    one = f"{platform.node()} {space.readlink() if space.exists() else ''}"
    return hashlib.sha256(one.encode()).hexdigest()[:8]


def _short_stem(path: Path) -> str:
    stem = os.fsencode(path.stem)
    return path.stem if len(stem) <= _LONGEST_STEM else hashlib.sha256(stem).hexdigest()


def for_opencv(path: Path | str) -> Any:
    """Return the name of a video as OpenCV wants it: given as text that is not UTF-8, it ends the process."""
    return os.fsencode(path)


def remove_partials(folder: Path, of: Path | None = None) -> None:
    """Remove what processes that were killed left in a folder of files that they were writing.

    Those of another machine or container may live: theirs are left until nothing was written for a day.

    Args:
        folder: may be missing.
        of: the file that it was to be; any when not given.
    """
    pattern = f".{glob.escape(_short_stem(of))}.*.part{glob.escape(of.suffix)}" if of else ".*.part*"
    for left in folder.glob(pattern):
        with suppress(PermissionError, FileNotFoundError):  # it is still being written (on Windows), or was finished
            if _was_left(left):
                left.unlink()


def _was_left(partial: Path) -> bool:
    *_, where, number = ["", *partial.name.removesuffix(partial.suffix).removesuffix(".part").split(".")]
    if not number.isdecimal():
        return False
    if where == _machine():
        return not _is_running(int(number))
    return time.time() - partial.stat().st_mtime > _A_DAY


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return False  # a signal would end it; but there a file that is open can't be removed
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        pass
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name that is moved over `path` at the end, or removed if the block raises.

    Raises:
        DistillError: the disk cannot be written.
    """
    partial = partial_name(path)
    try:
        yield partial
        move_into_place(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a finished file once the disk has it, so that after a power cut, too, the old or the new one is there."""
    with partial.open("r+b") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file.

    Raises:
        DistillError: the disk cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)


def check_writable(path: Path, said: str, read: Mapping[str, str] | None = None) -> None:
    """Check, before the work, that a file can be written at `path`.

    Args:
        path: the file to be.
        said: the setting as the user gave it, for the error.
        read: what is read, by its setting, and must not be written over.

    Raises:
        RequestError: it is a folder, a device or what is read, its folder is missing, or the disk cannot be written.
    """
    if path.is_dir():
        raise RequestError(f"{said}: is a folder; give the name of a file")
    for key, other in (read or {}).items():
        there = Path(other).expanduser()
        if path.exists() and there.exists() and path.samefile(there):
            raise RequestError(f"{said}: is {key}= itself; give another name")
    if path.exists() and not path.is_file():
        # The finished file is moved into place: over /dev/stdout, that would be the end of it.
        raise RequestError(f"{said}: is a device or a pipe; give the name of a file")
    if not path.parent.is_dir():
        raise RequestError(f"{said}: there is no folder {path.parent}; make it first or give another name")
    remove_partials(path.parent, path)
    partial = partial_name(path)
    try:
        partial.touch()
    except OSError as error:
        raise RequestError(f"{said}: cannot be written ({error.strerror}); give another name") from error
    finally:  # also where Ctrl-C comes between the two
        partial.unlink(missing_ok=True)


def new_file(key: str, settings: Mapping[str, Any], read: Sequence[str]) -> Path | None:
    """Return the file that the setting `key` names, once it is known that it can be written; None where not given.

    Args:
        key: of the setting.
        settings: of the command.
        read: keys of what is read, and must not be written over.

    Raises:
        RequestError: see `check_writable`.
    """
    if not settings[key]:
        return None
    path = Path(settings[key]).expanduser()
    check_writable(path, f"{key}={settings[key]}", {other: settings[other] for other in read})
    return path


def check_folder(path: Path, said: str) -> None:
    """Check, before the work, that a folder can be made at `path`, or is there and can be written into.

    Raises:
        RequestError: a file is in the way, or nothing can be written there.
    """
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise RequestError(f"{said}: {there} is a file; give the name of a folder")
    if not os.access(there, os.W_OK):
        raise RequestError(f"{said}: cannot write into {there}; give another folder")


def claim_folder(path: Path, *, reuse: bool) -> Path:
    """Make a folder for the results of a run: `path`, or `path2`, `path3`, ... where that is taken.

    Args:
        path: the name wanted.
        reuse: take `path` itself even if it is there.

    Raises:
        RequestError: it cannot be made.
    """
    number = 1
    while True:
        folder = path if number == 1 else path.with_name(f"{path.name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=reuse)
            remove_partials(folder)
            return folder
        except FileExistsError as error:
            if reuse:
                raise RequestError(f"out={path}: is a file; give the name of a folder") from error
            number += 1
        except OSError as error:
            raise RequestError(f"out={path}: cannot be made ({error.strerror}); give another folder") from error


def remove_all(paths: Iterable[Path], but: str) -> None:
    """Remove files, links and whole folders, but those of a name."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != but:
            path.unlink()


def link(source: Path, target: Path) -> None:
    """Make a link to a file, or a copy of it."""
    try:
        target.symlink_to(source.resolve())
    except OSError:  # Windows lets only some users make links
        shutil.copyfile(source, target)


def is_address(text: object) -> bool:
    """Return whether a setting is an address, such as s3://bucket/mine, and no file or folder."""
    return "://" in str(text)


def typed(*words: str) -> str:
    """Return the words of a command as they are typed into this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def size_of(path: str | Path) -> int:
    """Return a file's size in bytes, or -1 for what cannot be looked at, such as a link to nothing."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def printable(path: str) -> str:
    """Return a path as text that any file can hold; a name may be no text at all."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def cannot_write(path: Path, error: OSError) -> DistillError:
    """Return the error for a disk that refused; of a full one, how much room it still has."""
    why = str(error.strerror or error)
    if error.errno == errno.ENOSPC:
        why += f"; {room_for(path)}"
    return DistillError(f"{path}: cannot be written ({why})")


def room_for(path: Path) -> str:
    """Return in words how much more the disk of a file takes."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{shutil.disk_usage(there).free / 1e3:,.0f} kB are free"


def require_room(path: Path) -> None:
    """Check that a disk takes more of a file that is written by a library which does not say when it is full.

    Raises:
        DistillError: it does not.
    """
    if shutil.disk_usage(path.parent).free < _LITTLE:
        try:  # some of a disk may be kept for this user
            with tempfile.TemporaryFile(dir=path.parent) as probe:
                probe.write(bytes(_LITTLE))
        except OSError as error:
            raise cannot_write(path, error) from error
