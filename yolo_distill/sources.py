"""Pictures and videos by path, always in the same order, and nothing else is kept of them."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo_distill.errors import RequestError
from yolo_distill.files import is_address, size_of

#: Those of Ultralytics and some of OpenCV. What this machine's OpenCV can't decode is named and left out.
PICTURES = frozenset({
    ".avif", ".bmp", ".dib", ".dng", ".heic", ".heif", ".jpeg", ".jpg", ".jp2", ".mpo", ".pgm", ".png", ".ppm", ".tif",
    ".tiff", ".webp",
})  # fmt: skip
VIDEOS = frozenset({
    ".asf", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv", ".gif",
})  # fmt: skip

_STREAM = re.compile(r"(rtsp|rtmp|https?|udp|tcp)://")


@dataclass(frozen=True)
class Sources:
    """Everything there is to look at. An item's number is its place: pictures come first, then videos.

    Paths are text: there may be a million of them, and a `Path` takes several times the memory.

    Attributes:
        given: what `source=` named, as absolute paths or addresses.
        pictures: absolute paths or addresses.
        videos: absolute paths or addresses.
        digest: of names and sizes of all files in this order: the same on machines that have them in other folders.
    """

    given: list[str]
    pictures: list[str]
    videos: list[str]
    digest: str

    def __len__(self) -> int:
        return len(self.pictures) + len(self.videos)


def find_sources(source: str, out: Path | str) -> Sources:
    """Return what `source=` stands for; nothing is opened yet.

    Args:
        source: pictures, folders, patterns with * ? or [...] (** for folders below) and videos, with commas; each may
            be an address, such as s3://bucket/pictures.
        out: the folder of results, or their address, of which nothing is taken, though it may lie in a source.

    Raises:
        RequestError: a source is not there, or holds nothing to look at.
        DistillError: an address can't be reached.
    """
    given = split(source)
    inside = f"{_absolute(str(out))}{_separator(str(out))}"
    there = {one: _files_at(one) for one in given if is_address(one)}
    files = [path for one in given for path in there.get(one) or _files(one) if not path.startswith(inside)]
    if not files:
        raise RequestError(f"source={source}: holds nothing but what is in out={out}")
    files = list(dict.fromkeys(files)) if len(given) > 1 else files
    videos = [path for path in files if _suffix(path) in VIDEOS]
    pictures = [path for path in files if _suffix(path) not in VIDEOS] if videos else files
    sizes = {path: size for found in there.values() for path, size in found.items()}
    return Sources([_absolute(one) for one in given], pictures, videos, _digest([*pictures, *videos], sizes))


def split(source: str) -> list[str]:
    """Return the parts of `source=`, and refuse none; one file with a comma in its name is one part."""
    parts = [source] if Path(source).expanduser().exists() else source.split(",")
    parts = [part.strip() for part in parts if part.strip()]
    parts = [part if is_address(part) else str(Path(part).expanduser()) for part in parts]
    if not parts:
        raise RequestError(f"source={source}: names nothing; give pictures, folders, patterns or videos")
    return parts


def _files(source: str) -> list[str]:
    """Return the files that one part of `source=` stands for, sorted."""
    path = Path(source)
    if (source.isdecimal() and not path.exists()) or path.is_char_device():
        raise _endless(source)
    if path.is_file():
        return [_absolute(source)]
    found = listed(_absolute(source), source)
    if found is None:
        raise RequestError(
            f"source={source}: no such file or folder; give pictures, folders, patterns or videos, with commas between"
        )
    return found


def listed(path: str, source: str) -> list[str] | None:
    """Return the pictures and videos in a folder or of a pattern, sorted; None where it is neither.

    Whatever has the name of one is one, until it turns out that it can't be read: a link to nothing is not passed over
    in silence.

    Raises:
        RequestError: there is none; names `source`.
    """
    every: Iterable[str]
    if Path(path).is_dir():
        # No hidden ones, as no pattern names them: what macOS leaves beside a picture has its name, and is none.
        every = (one for one in map(str, Path(path).iterdir()) if not _hidden(one))
        nothing = f"the folder holds no pictures or videos (for folders below: {source}/**/*)"
    elif glob.has_magic(source):  # the folder that a path is in may have such letters in its own name
        # Path.glob takes no absolute pattern.
        every, nothing = glob.iglob(path, recursive=True), "no picture or video matches"  # noqa: PTH207
    else:
        return None
    found = sorted(one for one in every if _suffix(one) in PICTURES | VIDEOS)
    if not found:
        raise RequestError(f"source={source}: {nothing}")
    return found


def _files_at(source: str) -> dict[str, int]:
    """Return the sizes of the files that an address stands for, sorted."""
    from yolo_distill.address import Address

    if _STREAM.match(source):
        raise _endless(source)
    listed = Address(source, "source").listed()
    meant = [path for path in sorted(listed) if _hidden(source) or not _hidden(path)]  # as in a folder here
    found = {path: listed[path] for path in meant if _suffix(path) in PICTURES | VIDEOS}
    if not found:
        raise RequestError(f"source={source}: no picture or video is there (for folders below: {source}/**/*)")
    return found


def _endless(source: str) -> RequestError:
    return RequestError(f"source={source}: a camera or stream has no end; record a video, and give that")


def _digest(paths: Iterable[str], sizes: Mapping[str, int]) -> str:
    """Return the digest of files, of which addresses have their sizes with them."""
    digest = hashlib.sha256()
    for path in paths:
        size = sizes[path] if path in sizes else size_of(path)
        # A link to nothing counts as well: it will be named when its turn comes.
        digest.update(os.fsencode(f"{path.rpartition(_separator(path))[2]}\0{size}\0"))
    return digest.hexdigest()[:16]


def _absolute(path: str) -> str:
    if is_address(path):
        return path
    # Path.absolute leaves `..` as it is, and then one file has two names.
    return os.path.abspath(path)  # noqa: PTH100


def _separator(path: str) -> str:
    return "/" if is_address(path) else os.sep


def _hidden(path: str) -> bool:
    return path.rpartition(_separator(path))[2].startswith(".")


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()
