"""Writes results: pictures, JSON lines, video."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from yolo_distill.errors import DistillError, RequestError, one_line
from yolo_distill.files import (
    cannot_write,
    for_opencv,
    move_into_place,
    partial_name,
    require_room,
    room_for,
    write_bytes,
)
from yolo_distill.runtime.capture import count_frames
from yolo_distill.runtime.letterbox import Picture

# Codecs that the OpenCV on PyPI can write everywhere; it has no H.264 encoder.
_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


def write_picture(path: Path, image: Picture) -> None:
    """Write a picture in the format that the suffix of `path` names.

    Raises:
        DistillError: the picture cannot be encoded or the disk cannot be written.
    """
    try:
        data = encoded(image, path.suffix)
    except DistillError as error:
        raise DistillError(f"{path}: {error}") from error
    write_bytes(path, data)


def encoded(image: Picture, suffix: str, quality: int | None = None) -> bytes:
    """Return a picture file; of a JPEG the quality is given, to 100.

    Raises:
        DistillError: the picture cannot be encoded.
    """
    why = ""
    try:
        done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else [])
    except cv2.error as error:
        done, why = False, f" ({one_line(error)})"
    if not done:
        raise DistillError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels cannot be encoded as {suffix}{why}")
    return data.tobytes()


def reduced(picture: Picture, side: int) -> tuple[Picture, float]:
    """Return a picture whose longer side has so many pixels, and by what it was multiplied."""
    scale = side / max(picture.shape[:2])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


class JsonLines:
    """A file of one JSON object per line, written under a temporary name until `finish`.

    Each line is handed to the system at once: after a kill every line under the temporary name is whole but perhaps the
    last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = partial_name(path)
        with _saying_why(path):
            self._file = self._partial.open("w", encoding="utf-8", buffering=1)

    def write(self, record: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            DistillError: the disk cannot be written.
        """
        with _saying_why(self.path):
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            DistillError: the disk cannot be written.
        """
        with _saying_why(self.path):
            self._file.close()
            move_into_place(self._partial, self.path)

    def discard(self) -> None:
        """Remove what was written, unless it was finished."""
        with contextlib.suppress(OSError):  # a full disk refuses the last lines, which are not wanted any more
            self._file.close()
        self._partial.unlink(missing_ok=True)


class Video:
    """A video file, written under a temporary name until `finish`."""

    def __init__(self, path: Path, fps: float) -> None:
        """Prepare a video of so many frames a second; its size is that of the first frame.

        Raises:
            RequestError: no codec is known for its suffix.
        """
        check_video_name(path, str(path))
        self.path = path
        # MPEG-4 counts time in fractions of up to 65,535 parts a second, and OpenCV hands on three decimals,
        # of which 0.001 is none to it.
        self.fps = max(fps, 0.002) if fps <= 65 else round(fps, 2 if fps <= 655 else 1)
        self.frames = 0
        self._partial = partial_name(path)
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, image: Picture) -> None:
        """Add a frame (H, W, 3); one of another size is resized to that of the first.

        Raises:
            DistillError: this OpenCV cannot write such a video here, or the disk is full.
        """
        size = (image.shape[1], image.shape[0])
        if self._writer is None:
            self._size = size
            code = cv2.VideoWriter.fourcc(*_CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(for_opencv(self._partial), code, self.fps, size)
            if not self._writer.isOpened():
                raise DistillError(f"{self.path}: cannot be written as a video ({size[0]}x{size[1]}, {self.fps:g} fps)")
        self._writer.write(image if size == self._size else cv2.resize(image, self._size))
        self.frames += 1
        require_room(self.path)

    def finish(self) -> None:
        """Close the video and give it its name.

        Raises:
            DistillError: the disk did not take all of it.
        """
        if self._writer is None:
            return
        self._writer.release()
        try:
            # OpenCV does not say when a disk is full; a video that was cut off cannot be opened or lacks frames.
            whole = count_frames(self._partial) >= self.frames
        except RequestError:
            whole = False
        if not whole:
            raise DistillError(
                f"{self.path}: the video could not be written to its end; is there no space ({room_for(self.path)})?"
            )
        with _saying_why(self.path):
            move_into_place(self._partial, self.path)

    def discard(self) -> None:
        """Remove what was written, unless it was finished."""
        if self._writer is not None:
            self._writer.release()
        self._partial.unlink(missing_ok=True)


def check_video_name(path: Path, said: str) -> None:
    """Check that a video can be written under this name.

    Raises:
        RequestError: no codec is known for its suffix.
    """
    if path.suffix.lower() not in _CODECS:
        raise RequestError(f"{said}: videos can be written as {', '.join(_CODECS)}; give such a name")


@contextlib.contextmanager
def _saying_why(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
