"""Where answers are kept: bytes by the hash of a picture, in memory or in a file that outlives the run."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ultralytics.utils import LOGGER

from yolo_distill.errors import RequestError

#: Seconds to wait for another run that writes to the same file.
PATIENCE = 30.0


class MemoryStore:
    """Answers in memory, for as long as the run lasts."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is kept under the keys; keys of which nothing is are left out."""
        return {key: self._kept[key] for key in keys if key in self._kept}

    def put(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers by key."""
        self._kept.update(answers)


class FileStore:
    """Answers in an SQLite file, which any number of runs may share.

    SQLite sees to it that a write is there as a whole or not at all and that runs don't get into each other's way; a
    checksum with each answer tells what the disk did to it. What is damaged is dropped, said, and computed anew.
    """

    def __init__(self, file: Path, owner: str) -> None:
        """Open `file`, or make it.

        Args:
            file: may not exist yet, nor its folder.
            owner: what the answers depend on besides the picture; a file of another owner is made anew.

        Raises:
            RequestError: it can't be written.
        """
        self._file, self._owner, self._writes = file, owner, True
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._start_anew(str(error))
        except (OSError, sqlite3.OperationalError) as error:
            raise RequestError(
                f"teacher_cache=disk: {file} can't be written ({error}); use teacher_cache=ram"
            ) from None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is kept under the keys; keys of which nothing sound is are left out."""
        marks = ",".join("?" * len(keys))
        try:
            rows = self._base.execute(f"SELECT key, sum, answer FROM answers WHERE key IN ({marks})", keys).fetchall()
        except sqlite3.OperationalError as error:
            LOGGER.warning(f"{self._file}: not read this time ({error})")
            return {}
        except sqlite3.DatabaseError as error:
            self._start_anew(str(error))
            return {}
        sound = {key: answer for key, checksum, answer in rows if zlib.crc32(answer) == checksum}
        if len(sound) < len(rows):
            LOGGER.warning(f"{self._file}: {len(rows) - len(sound)} damaged answers, asking the teacher again")
        return sound

    def put(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers by key. Where the disk is full, say so once and go on without keeping more."""
        if not self._writes:
            return
        rows = [(key, zlib.crc32(answer), answer) for key, answer in answers.items()]
        try:
            with self._base:
                self._base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                self._writes = False
                LOGGER.warning(f"{self._file}: no more answers are kept ({error})")
        except sqlite3.DatabaseError as error:
            self._start_anew(str(error))

    def _open(self) -> None:
        self._base = sqlite3.connect(self._file, timeout=PATIENCE, isolation_level="IMMEDIATE")
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=OFF")  # a power cut may cost answers, which the checksums tell
        with self._base:
            self._base.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, sum INTEGER, answer BLOB)")
            self._base.execute("CREATE TABLE IF NOT EXISTS owner (name TEXT PRIMARY KEY)")
            owners = [name for (name,) in self._base.execute("SELECT name FROM owner")]
            if owners not in ([], [self._owner]):
                raise sqlite3.DatabaseError("it belongs to another teacher")
            self._base.execute("INSERT OR IGNORE INTO owner VALUES (?)", (self._owner,))

    def _start_anew(self, reason: str) -> None:
        LOGGER.warning(f"{self._file}: {reason}; starting it anew")
        with suppress(AttributeError, sqlite3.Error):
            self._base.close()
        for file in (self._file, *(self._file.with_name(self._file.name + end) for end in ("-wal", "-shm"))):
            file.unlink(missing_ok=True)
        self._open()
