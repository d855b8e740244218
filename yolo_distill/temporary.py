"""Folders for a moment, which the next process removes where theirs was killed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "yolo-distill-"
_LOCK = ".lock"


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """Give a folder that goes at the end, and first remove those of its kind that processes which were killed left.

    A lock tells these from the others: the system lets it go with its process, and it holds between containers too,
    which have numbers of their own for processes.

    Args:
        parent: where it is made; the system's folder for temporary files when not given.
        prefix: how it, and all of its kind, begin.
    """
    from filelock import FileLock

    parent = parent or Path(tempfile.gettempdir())
    for left in parent.glob(f"{prefix}*"):
        # One without a lock is being made; one that cannot be locked has its process, or is somebody else's.
        if (left / _LOCK).is_file() and _held_by_nobody(left / _LOCK):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True) as name:
        lock = FileLock(Path(name) / _LOCK, timeout=0, fallback_to_soft=False)
        with contextlib.suppress(OSError, NotImplementedError):  # a disk without locks; what is killed stays there
            lock.acquire()
        try:
            yield Path(name)
        finally:
            lock.release()


def is_temporary(path: Path) -> bool:
    """Return whether a path lies in a temporary folder of this kind."""
    return any(above.name.startswith(PREFIX) and (above / _LOCK).is_file() for above in path.absolute().parents)


def _held_by_nobody(file: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        return False
    lock.release()
    return True
