"""The served files as a folder, for any web server that hands out files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

from yolo_distill.errors import RequestError
from yolo_distill.files import cannot_write
from yolo_distill.serve.routes import IMMUTABLE, Table
from yolo_distill.serve.security import SECURITY_HEADERS

#: Static hosts such as Netlify and Cloudflare Pages read headers from it.
HEADERS_FILE = "_headers"


def write_folder(table: Table, out: Path) -> None:
    """Write what the table holds, and `_headers`, to `out`: all of it or nothing.

    Args:
        table: what would be served.
        out: a folder that is missing, empty, or of an earlier build, which is then replaced.

    Raises:
        RequestError: the folder holds anything else, or is a file.
        DistillError: the disk cannot be written.
    """
    out = Path(os.path.realpath(out))  # behind a link lies what is to be replaced
    check_folder(out)
    staging = out.with_name(f".{out.name}.{os.getpid()}.part")
    before = out.with_name(f".{out.name}.{os.getpid()}.before")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        for address, entry in table.entries.items():
            path = staging.joinpath(*unquote(address).split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.body)
        (staging / HEADERS_FILE).write_text(_headers(), encoding="utf-8")
        if out.exists():
            out.rename(before)
        try:
            staging.rename(out)
        except OSError:
            if before.exists():
                before.rename(out)
            raise
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if out.exists():
            shutil.rmtree(before, ignore_errors=True)


def check_folder(out: Path) -> None:
    """Check, before the work, that a folder can be made at `out`, and that nothing of anybody else's is in it.

    Raises:
        RequestError: it cannot be made, is no folder, or holds something else.
    """
    parent = Path(os.path.realpath(out)).parent
    if not parent.is_dir():
        raise RequestError(f"build={out}: there is no folder {parent}; make it first or give another name")
    if not os.access(parent, os.W_OK):
        raise RequestError(f"build={out}: {parent} cannot be written; give another folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise RequestError(f"build={out}: is a file; give the name of a folder")
    try:
        there = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir() or path.is_symlink()}
    except OSError as error:
        raise RequestError(f"build={out}: cannot be read ({error.strerror}); give another folder") from error
    if foreign := sorted(there - _of_earlier_build(out)):
        raise RequestError(
            f"build={out}: holds files that serve did not write there ({foreign[0]}); give an empty or a new folder"
        )


def _of_earlier_build(out: Path) -> set[str]:
    """Return the files that an earlier build says it wrote."""
    try:
        about = json.loads((out / "files.json").read_text("utf-8"))
        listed = [*about["app"], *about["ort"], about["model"]["url"]]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {*(unquote(str(one)) for one in listed), "index.html", "sw.js", "files.json", HEADERS_FILE}


def _headers() -> str:
    rows = "".join(f"  {name}: {value}\n" for name, value in SECURITY_HEADERS)
    return f"/*\n{rows}/model/*\n  Cache-Control: {IMMUTABLE}\n"


def how_to_host(table: Table, out: Path) -> list[str]:
    """Return the lines that say what was written and what to do with it."""
    size = sum(len(entry.body) for entry in table.entries.values())
    return [
        f"{out}: {len(table.entries) + 1} files, {size / 1e6:.1f} MB",
        "host it as it is, over https (phones give no camera otherwise), on any web server, in any folder of it",
        f"the server should send the headers in {HEADERS_FILE} (Netlify and Cloudflare Pages read that file): without "
        "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp the first visit has "
        "one thread only",
    ]
