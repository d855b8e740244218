"""One process at a time for what two would spoil."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from yolo_distill.errors import DistillError, RequestError


@contextmanager
def lock(file: Path, taken: str, patience: float = 0.0) -> Iterator[None]:
    """Hold `file` while this process works; the system lets it go when the process ends, however it ends.

    Args:
        file: what is held; made if it is missing.
        taken: what is said where another process holds it.
        patience: seconds to wait for that one.

    Raises:
        RequestError: another process holds it.
        DistillError: the disk cannot be written, or knows no locks.
    """
    # A soft lock would outlive a process that is killed.
    held = FileLock(file, timeout=patience, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout:
        raise RequestError(taken) from None
    except (OSError, NotImplementedError) as error:
        raise DistillError(
            f"{file}: cannot be locked ({getattr(error, 'strerror', None) or error}); give an out= on another disk"
        ) from error
    try:
        yield
    finally:
        held.release()
