"""Where an export goes, and where it is made before."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from yolo_distill.errors import RequestError


def destination(out: str | Path | None, source: Path) -> Path:
    """Return the `.onnx` file to write.

    Args:
        out: what the user gave: a file, a folder that exists, or None for beside the checkpoint.
        source: the checkpoint.

    Raises:
        RequestError: it is neither.
    """
    if out is None:
        return source.with_suffix(".onnx")
    path = Path(out).expanduser()
    if path.is_dir():
        return path / f"{source.stem}.onnx"
    if path.suffix.lower() != ".onnx":
        raise RequestError(f"out={out}: give the name of an .onnx file, or a folder that exists")
    return path


@contextlib.contextmanager
def workspace(path: Path, out: str | Path | None) -> Iterator[Path]:
    """Give a temporary folder on the same disk as `path`, so that the finished file can be moved in one step.

    Raises:
        RequestError: it cannot be made.
    """
    said = f"out={out}" if out is not None else f"{path}"
    if not path.parent.is_dir():
        raise RequestError(f"{said}: there is no folder {path.parent}; make it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-export-", dir=path.parent))
    except OSError as error:
        raise RequestError(f"{said}: cannot write into {path.parent} ({error.strerror}); give another out=") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
