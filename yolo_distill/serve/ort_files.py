"""onnxruntime-web, which runs the detector in the browser: found on this machine, or fetched once by npm.

`package-lock.json` of the app says which version, and npm checks what it fetches by the checksums in it. Only the files
that `ort.json` names are kept: the whole package has ten times their size.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve.folders import cache_folder

_PACKAGE = Path("node_modules", "onnxruntime-web")
_SECONDS = 900  # for a slow line; npm gives up on a dead one by itself, sooner
_NPM = (
    "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--no-progress",
    "--fetch-retries=2", "--fetch-timeout=60000",
)  # fmt: skip


def read_ort(web: Path, given: Path | None, say: Callable[[str], None]) -> dict[str, bytes]:
    """Return the bytes of each file of onnxruntime-web that the app needs, by name.

    Args:
        web: the app's folder.
        given: folder that the user named; `None` to look for one, and to fetch it where there is none.
        say: gets a line before anything is fetched.

    Raises:
        RequestError: the folder given lacks files.
        DistillError: they are nowhere, and cannot be fetched.
    """
    names: list[str] = _read_json(web / "ort.json")
    folder = _given(given, names) if given else _found(web, names) or _fetched(web, names, say)
    try:
        return {name: (folder / name).read_bytes() for name in names}
    except OSError as error:
        raise DistillError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _version(web: Path) -> str:
    path = web / "package-lock.json"
    try:
        return str(_read_json(path)["packages"][_PACKAGE.as_posix()]["version"])
    except (KeyError, TypeError) as error:
        raise DistillError(f"{path}: names no onnxruntime-web; install yolo-distill again") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DistillError(f"{path}: cannot be read ({error.strerror}); install yolo-distill again") from error
    except ValueError as error:
        raise DistillError(f"{path}: is not JSON; install yolo-distill again") from error


def _lacking(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def _given(given: Path, names: Sequence[str]) -> Path:
    if not given.is_dir():
        raise RequestError(f"ort={given}: no such folder; give the one with {names[0]}")
    # The folder itself, or the package or node_modules around it.
    folders = [given, given / "dist", given / "onnxruntime-web" / "dist"]
    lacking = {folder: _lacking(folder, names) for folder in folders}
    best = min(folders, key=lambda folder: len(lacking[folder]))
    if lacking[best]:
        raise RequestError(f"ort={given}: lacks {', '.join(lacking[best])} of onnxruntime-web; give its folder dist")
    return best


def _found(web: Path, names: Sequence[str]) -> Path | None:
    """Return the folder of a developer's `npm ci` beside the app, if it is of the version that the lock file says."""
    about = web / _PACKAGE / "package.json"
    dist = web / _PACKAGE / "dist"
    if not about.is_file() or _lacking(dist, names):
        return None
    about_package = _read_json(about)
    same = isinstance(about_package, dict) and about_package.get("version") == _version(web)
    return dist if same else None


def _fetched(web: Path, names: Sequence[str], say: Callable[[str], None]) -> Path:
    manifest = [web / "package.json", web / "package-lock.json"]
    version = _version(web)
    key = hashlib.sha256("\0".join(names).encode())
    for path in manifest:
        key.update(path.read_bytes())
    folder = cache_folder() / f"onnxruntime-web-{version}-{key.hexdigest()[:12]}"
    if not _lacking(folder, names):
        return folder
    by_hand = f"or put {', '.join(names)} of onnxruntime-web {version} into {folder} by hand"
    npm = shutil.which("npm")
    if npm is None:
        raise DistillError(
            f"onnxruntime-web {version}, which runs the model in the browser, is fetched by npm, which is not here: "
            f"install Node.js (it brings npm), {by_hand}"
        )
    say(f"fetching onnxruntime-web {version} by npm, once (some 40 MB); kept in {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder.parent)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent, ignore_cleanup_errors=True) as staging:
            for path in manifest:
                shutil.copyfile(path, Path(staging, path.name))
            _run_npm(npm, Path(staging), by_hand)
            dist = Path(staging, _PACKAGE, "dist")
            if lacking := _lacking(dist, names):
                raise DistillError(f"onnxruntime-web {version}: lacks {', '.join(lacking)}; install yolo-distill again")
            folder.mkdir(exist_ok=True)  # another process may have made it meanwhile, or a person by hand
            for name in names:
                (dist / name).replace(folder / name)
    except OSError as error:
        raise DistillError(f"{folder.parent}: cannot be written ({error.strerror}); {by_hand}") from error
    return folder


def _clear(cache: Path) -> None:
    """Delete what processes that were killed in the middle of it left: nobody fetches for that long."""
    for left in cache.glob(".fetching-*"):
        with suppress(FileNotFoundError):  # another process has just finished there
            if left.stat().st_mtime < time.time() - 2 * _SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _run_npm(npm: str, folder: Path, by_hand: str) -> None:
    try:
        done = subprocess.run(
            [npm, *_NPM], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DistillError(f"npm did not fetch onnxruntime-web within {_SECONDS} s; try again, {by_hand}") from error
    if done.returncode:
        raise DistillError(f"npm could not fetch onnxruntime-web ({_reason(done.stderr)}); try again online, {by_hand}")


def _reason(said: str) -> str:
    """Return what npm complains about, without its code lines and the log that it points to."""
    lines = re.findall(r"^npm (?:error|ERR!) *(.*)$", said, re.MULTILINE) or said.split("\n")
    plain = [line for line in lines if line and not re.match(r"(code|errno|syscall|type) |A complete log", line)]
    return " ".join((plain or lines)[0].split())[:200] or "it did not say why"
