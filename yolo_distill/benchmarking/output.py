"""Where the results go: a folder of their own, or one JSON file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_distill.benchmarking.plot import picture_of
from yolo_distill.benchmarking.tables import markdown_page
from yolo_distill.errors import RequestError
from yolo_distill.files import check_writable, claim_folder, write_bytes


def check_out(out: str) -> None:
    """Check, before the work, that the results can be written.

    Args:
        out: name of a folder, or of a file that ends in .json.

    Raises:
        RequestError: they cannot.
    """
    path = Path(out).expanduser()
    if path.suffix.lower() == ".json" and not path.is_dir():
        check_writable(path, f"out={out}")
        return
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise RequestError(f"out={out}: {there} is a file; give the name of a folder, or of a .json file")
    # Another folder is made beside the one that is there.
    target = path.absolute().parent if there == path else there
    if not os.access(target, os.W_OK):
        raise RequestError(f"out={out}: cannot write into {target}; give another folder")


def write_results(report: Mapping[str, Any], out: str) -> tuple[list[Path], str | None]:
    """Write the results.

    Args:
        report: what was measured.
        out: as for `check_out`; a folder that is there is left alone, and `out2` made beside it.

    Returns:
        the files, and a sentence about what could not be made, if anything.

    Raises:
        DistillError: the disk cannot be written; nothing is left behind then.
    """
    path = Path(out).expanduser()
    content = (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()
    if path.suffix.lower() == ".json" and not path.is_dir():
        write_bytes(path, content)
        return [path], None
    files = {"benchmark.json": content, "table.md": markdown_page(report).encode()}
    picture = picture_of(report)
    if picture is not None:
        files[picture[0]] = picture[1]
    folder = claim_folder(path, reuse=False)
    try:
        for name, data in files.items():
            write_bytes(folder / name, data)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return [folder / name for name in files], None if picture else "no picture: matplotlib is not installed"
