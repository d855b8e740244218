"""One process at a time for what two would spoil."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import cannot_write

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: What the systems say of a file that another process holds.
_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}


class Lock:
    """Holds a file while this process works; the system lets it go when the process ends, however it ends."""

    def __init__(self, file: Path, taken: str) -> None:
        """Prepare to hold `file`; `taken` is what is said where another process does."""
        self._file, self._taken = file, taken
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Lock:
        """Take the file.

        Raises:
            RequestError: another process holds it.
            DistillError: the disk cannot be written, or knows no locks.
        """
        try:
            stream = self._file.open("ab")
        except OSError as error:
            raise cannot_write(self._file, error) from error
        try:
            if sys.platform == "win32":
                msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            if error.errno in _TAKEN:
                raise RequestError(self._taken) from None
            raise DistillError(
                f"{self._file}: cannot be locked ({error.strerror or error}), so that two processes could spoil each "
                "other's work; give an out= on another disk"
            ) from error
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
