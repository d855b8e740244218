"""One comparison at a time in a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import IO

from yolo_distill.errors import RequestError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FILE = ".lock"


class Lock:
    """Holds a folder while this process works in it; the system lets it go when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Lock:
        """Take the folder.

        Raises:
            RequestError: another process works in it, or it cannot be written.
        """
        try:
            stream = (self._folder / _FILE).open("ab")
        except OSError as error:
            raise RequestError(f"out={self._folder}: cannot be written ({error.strerror}); give another one") from None
        try:
            if sys.platform == "win32":
                msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            raise RequestError(
                f"out={self._folder}: another yolo-distill compare is at work there; wait for it, or give another out="
            ) from None
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
