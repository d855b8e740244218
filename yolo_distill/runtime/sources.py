"""What `source=` may be: a picture, a folder, a pattern, a video, a camera, a stream."""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from yolo_distill.errors import RequestError
from yolo_distill.runtime.capture import Capture, open_camera, open_stream, open_video
from yolo_distill.runtime.letterbox import Picture

PICTURES = frozenset({".bmp", ".dib", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv", ".gif"})
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://", "rtp://")


@dataclass(frozen=True)
class Item:
    """One picture, or one thing that gives frames.

    Attributes:
        name: path or address, for people and for the results.
        open: opens it, if it gives frames; `None` for a picture.
        live: whether it goes on by itself.
    """

    name: str
    open: Callable[[], Capture] | None = None
    live: bool = False


def find(source: str) -> list[Item]:
    """Return what a `source=` stands for; nothing is opened yet.

    Args:
        source: a file, a folder, a pattern with * ? or [...] (** for folders below), the number of a camera, or an
            address such as rtsp://camera/stream.

    Raises:
        RequestError: it is not there, or holds nothing to look at.
    """
    if source.isdecimal():
        return [Item(source, lambda: open_camera(int(source)), live=True)]
    if source.lower().startswith(_STREAMS):
        return [Item(source, lambda: open_stream(source), live=True)]
    path = Path(source).expanduser()
    if path.is_char_device():
        return [Item(source, lambda: open_camera(str(path)), live=True)]
    if path.is_file():
        return [_file(path)]
    if path.is_dir():
        files = [one for one in sorted(path.iterdir()) if one.suffix.lower() in PICTURES | VIDEOS and one.is_file()]
        if not files:
            raise RequestError(
                f"source={source}: the folder holds no pictures or videos (for folders below: {source}/**/*)"
            )
        return [_file(one) for one in files]
    if glob.has_magic(source):
        # Path.glob takes no absolute pattern.
        found = (Path(one) for one in sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
        files = [one for one in found if one.suffix.lower() in PICTURES | VIDEOS and one.is_file()]
        if not files:
            raise RequestError(f"source={source}: no picture or video matches")
        return [_file(one) for one in files]
    raise RequestError(
        f"source={source}: no such file or folder; give a picture, a folder, a pattern, a video, the number of a "
        "camera or a stream address"
    )


def read_picture(path: str) -> Picture | None:
    """Return a picture as (H, W, 3), turned as its EXIF says, or `None` if it cannot be decoded."""
    try:
        # OpenCV's own imread cannot open every name on Windows.
        data = np.fromfile(path, np.uint8)
        image: Picture | None = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return image


def _file(path: Path) -> Item:
    if path.suffix.lower() in VIDEOS:
        return Item(str(path), lambda: open_video(path))
    return Item(str(path))
