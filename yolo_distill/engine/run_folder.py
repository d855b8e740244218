"""The folder of a run: one process works in it, and that of a run which was killed too early is taken again."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ultralytics.utils import SETTINGS

from yolo_distill.errors import RequestError
from yolo_distill.files import cannot_write, remove_all, remove_partials

#: There as long as a process works in the folder, or where it was killed.
_LOCK = ".lock"
#: What the system says where nothing more can be written.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
#: What a run that failed leaves, or else nothing.
_WORTH_KEEPING = (Path("weights", "last.pt"), Path("results.csv"))


def runs_folder(settings: Mapping[str, Any]) -> Path:
    """Return the folder that the host would put this run's folder into."""
    project = Path(settings.get("project") or "")
    runs = Path(SETTINGS["runs_dir"]) / str(settings.get("task") or "detect")
    return (project if project.is_absolute() else runs / project).resolve()


@contextmanager
def new_run(settings: Mapping[str, Any]) -> Iterator[Path]:
    """Hold the folder that a new run goes into, named as the host does it.

    One whose run was killed before its first checkpoint is emptied and taken, so that the same command goes on there.
    With `exist_ok` the folder is what it is. A run that fails before it has something to show leaves none.

    Raises:
        RequestError: it cannot be made, or with `exist_ok` another process works there.
    """
    wanted = runs_folder(settings) / str(settings.get("name") or "train")
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True, exist_ok=bool(settings.get("exist_ok")))
        except FileExistsError:
            if not _killed_early(folder):
                continue
        except OSError as error:
            raise RequestError(f"{folder}: cannot be made ({error.strerror}); give another project=") from error
        try:
            with held_run(folder):
                if not settings.get("exist_ok"):
                    remove_all(folder.iterdir(), but=_LOCK)
                yield folder
            return
        except _Busy:
            if settings.get("exist_ok"):
                raise
        except BaseException:
            if not settings.get("exist_ok") and not any((folder / name).is_file() for name in _WORTH_KEEPING):
                shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def held_run(folder: Path) -> Iterator[None]:
    """Hold a run's folder, and remove first what a process that was killed left half done in it.

    Raises:
        RequestError: another process works there.
        DistillError: the disk is full.
    """
    lock = FileLock(folder / _LOCK, timeout=0, fallback_to_soft=False)
    try:
        try:
            lock.acquire()
        except Timeout:
            raise _Busy(f"{folder}: another process is at work there; wait for it") from None
        except NotImplementedError:
            pass  # a disk without locks
        remove_partials(folder)
        remove_partials(folder / "weights")
        shutil.rmtree(folder / "weights" / ".saving", ignore_errors=True)
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise cannot_write(Path(error.filename or folder), error) from error
    finally:
        if lock.is_locked:
            (folder / _LOCK).unlink(missing_ok=True)
            lock.release()


class _Busy(RequestError):
    """Another process holds a folder."""


def _killed_early(folder: Path) -> bool:
    """Return whether a process of ours was killed here before there was anything to go on from."""
    return (folder / _LOCK).is_file() and not (folder / "weights" / "last.pt").is_file()
