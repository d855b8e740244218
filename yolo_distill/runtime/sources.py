"""What `source=` may be: a picture, a folder, a pattern, a video, a camera, a stream."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolo_distill.errors import RequestError
from yolo_distill.runtime.capture import Capture, open_camera, open_stream, open_video
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.sources import VIDEOS, listed

_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://", "rtp://")

_MOST_DIGITS = 9  # of a number that OpenCV takes for a camera

# What follows 0xFF in a JPEG's data is 0 or one of the marks D0 to D7.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)


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
    if source.isdecimal() and not os.path.exists(source):  # noqa: PTH110 - Path fails where a name is too long
        if len(source) > _MOST_DIGITS:
            raise RequestError(
                f"source={source:.20}: {len(source)} digits are too many for a camera's number; the first camera is 0"
            )
        return [Item(source, lambda: open_camera(int(source)), live=True)]
    if source.lower().startswith(_STREAMS):
        return [Item(source, lambda: open_stream(source), live=True)]
    path = Path(source).expanduser()
    if path.is_char_device():
        return [Item(source, lambda: open_camera(str(path)), live=True)]
    if path.is_file():
        return [_file(path)]
    found = listed(str(path), source)
    if found is None:
        raise RequestError(
            f"source={source}: no such file or folder; give a picture, a folder, a pattern, a video, the number of a "
            "camera or a stream address"
        )
    return [_file(Path(one)) for one in found]


def read_picture(path: str) -> Picture | None:
    """Return a picture as (H, W, 3) uint8, blue, green, red, or `None` if it cannot be decoded.

    Pictures are read as the host's loader reads them: turned as their EXIF says, 16 bits a channel brought down to 8,
    alpha dropped, grey and palettes and CMYK made blue, green and red; of several pages the first. One that was cut off
    is not read, nor is a TIFF of floats, of which nobody knows what is white.
    """
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            return None
        # OpenCV's own imread cannot open every name on Windows.
        data = np.fromfile(path, np.uint8)
        if cut_off_jpeg(data):
            return None
        # At its own depth: what OpenCV itself makes of a TIFF of 16 bits is rounded, the host's is cut off.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except (OSError, MemoryError, cv2.error):
        return None
    if image is not None and image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    return image if image is not None and image.dtype == np.uint8 else None


def why_unread(path: str) -> str:
    """Return why `read_picture` returned `None` for a path."""
    place = Path(path)
    try:
        if place.is_dir():
            return "is a folder"
        if place.is_symlink() and not place.exists():
            return "is a link to what is not there"
        if place.exists() and not place.is_file():
            return "is no file"
        with place.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    return "is empty" if empty else "cannot be decoded as a picture of at most 179 million pixels"


def cut_off_jpeg(data: npt.NDArray[np.uint8]) -> bool:
    """Return whether a file (N,) is a JPEG without its end, of which older OpenCVs make a half-grey picture."""
    whole = data.data
    if whole[:2].tobytes() != b"\xff\xd8":
        return False
    at = 2
    while marker := _JPEG_MARKER.search(whole, at):
        if marker[1] == b"\xd9":
            return False
        # A segment is passed over by the length it begins with: a thumbnail in it has an end of its own.
        at = marker.end() + int.from_bytes(whole[marker.end() : marker.end() + 2], "big")
    return True


def _file(path: Path) -> Item:
    if path.suffix.lower() in VIDEOS:
        return Item(str(path), lambda: open_video(path))
    return Item(str(path))
