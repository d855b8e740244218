"""Pictures and videos by path, always in the same order, and nothing else is kept of them."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from yolo_distill.errors import RequestError
from yolo_distill.files import size_of

PICTURES = frozenset({".bmp", ".dib", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv", ".gif"})

# `rtsp://...`, as `Path` writes it; C:/ is none.
_ADDRESS = re.compile(r"\w{2,}:/")


@dataclass(frozen=True)
class Sources:
    """Everything there is to look at. An item's number is its place: pictures come first, then videos.

    Paths are text: there may be a million of them, and a `Path` takes several times the memory.

    Attributes:
        given: what `source=` named, as absolute paths.
        pictures: absolute paths.
        videos: absolute paths.
        digest: of names and sizes of all files in this order: the same on machines that have them in other folders.
    """

    given: list[str]
    pictures: list[str]
    videos: list[str]
    digest: str

    def __len__(self) -> int:
        return len(self.pictures) + len(self.videos)


def find_sources(source: str, out: Path) -> Sources:
    """Return what `source=` stands for; nothing is opened yet.

    Args:
        source: pictures, folders, patterns with * ? or [...] (** for folders below) and videos, with commas.
        out: the folder of results, of which nothing is taken, though it may lie in a source.

    Raises:
        RequestError: a source is not there, or holds nothing to look at.
    """
    given = split(source)
    inside = _absolute(str(out)) + os.sep
    files = [path for one in given for path in _files(one) if not path.startswith(inside)]
    if not files:
        raise RequestError(f"source={source}: holds nothing but what is in out={out}")
    files = list(dict.fromkeys(files)) if len(given) > 1 else files
    videos = [path for path in files if _suffix(path) in VIDEOS]
    pictures = [path for path in files if _suffix(path) not in VIDEOS] if videos else files
    return Sources([_absolute(one) for one in given], pictures, videos, _digest([*pictures, *videos]))


def split(source: str) -> list[str]:
    """Return the parts of `source=`, and refuse none; one file with a comma in its name is one part."""
    parts = [source] if Path(source).expanduser().exists() else source.split(",")
    parts = [str(Path(part.strip()).expanduser()) for part in parts if part.strip()]
    if not parts:
        raise RequestError(f"source={source}: names nothing; give pictures, folders, patterns or videos")
    return parts


def _files(source: str) -> list[str]:
    """Return the files that one part of `source=` stands for, sorted."""
    path = Path(source)
    if (source.isdecimal() and not path.exists()) or _ADDRESS.match(source) or path.is_char_device():
        raise RequestError(f"source={source}: a camera or stream has no end; record a video, and give that")
    if path.is_file():
        return [_absolute(source)]
    if path.is_dir():
        folder = _absolute(source).rstrip(os.sep)
        found = [f"{folder}{os.sep}{one.name}" for one in path.iterdir() if _suffix(one.name) in PICTURES | VIDEOS]
        nothing = f"the folder holds no pictures or videos (for folders below: {source}/**/*)"
    elif glob.has_magic(source):
        # Path.glob takes no absolute pattern.
        every = glob.iglob(_absolute(source), recursive=True)  # noqa: PTH207
        found, nothing = [one for one in every if _suffix(one) in PICTURES | VIDEOS], "no picture or video matches"
    else:
        found = []
        nothing = "no such file or folder; give pictures, folders, patterns or videos, with commas between"
    if not found:
        raise RequestError(f"source={source}: {nothing}")
    return sorted(found)


def _digest(paths: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        # A link to nothing counts as well: it will be named when its turn comes.
        digest.update(os.fsencode(f"{path.rpartition(os.sep)[2]}\0{size_of(path)}\0"))
    return digest.hexdigest()[:16]


def _absolute(path: str) -> str:
    # Path.absolute leaves `..` as it is, and then one file has two names.
    return os.path.abspath(path)  # noqa: PTH100


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()
