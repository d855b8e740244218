"""Where the results go: a folder of their own, or one JSON file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_distill.benchmarking.plot import picture_of
from yolo_distill.benchmarking.tables import markdown_page
from yolo_distill.files import check_folder, check_writable, claim_folder, write_bytes


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
    # Another folder is made beside one that is there.
    check_folder(path.absolute().parent if path.is_dir() else path, f"out={out}")


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
