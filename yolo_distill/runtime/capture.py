"""Opens what gives frames one after another: a video file, a camera, a stream."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import cv2

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import for_opencv
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import quiet

# FFmpeg prints what the errors here say anyway. OpenCV reads this once, when it first opens or writes a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

STREAM_TIMEOUT_MS = 10_000
DEFAULT_FPS = 30.0  # for cameras and streams that do not say theirs


class Capture:
    """Frames of one source, in order.

    Attributes:
        name: the source as the user gave it.
        fps: frames a second; `DEFAULT_FPS` where the source does not say.
        total: number of frames, where it is known.
        live: whether the source goes on by itself, be it read or not.
        loop: whether a video file begins again at its end; may be set at any time.
    """

    def __init__(self, capture: Any, name: str, live: bool, closed: DistillError, empty: DistillError) -> None:
        """Take over a capture of OpenCV and read its first frame.

        Raises:
            DistillError: `closed` if it is not open, `empty` if there is no frame.
        """
        if not capture.isOpened():
            raise closed
        self._first = _read(capture)
        if self._first is None:
            capture.release()
            raise empty
        fps, total = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Streams answer with huge or negative numbers, a video without an index with 0; one behind http has an end.
        counted = 0 < total < 1e9
        self.name = name
        self.live = live and not counted
        self.fps = float(fps) if 0.1 < fps < 1000 else DEFAULT_FPS
        self.total = int(total) if counted else None
        self.loop = False
        self._capture = capture

    def read(self) -> Picture | None:
        """Return the next frame (H, W, 3), or `None` when there are no more."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        image = _read(self._capture)
        return _read(self._capture) if image is None and self._begin_again() else image

    def skip(self, count: int) -> int:
        """Pass over frames without decoding them; return over how many."""
        done = 0
        if count > 0 and self._first is not None:
            self._first, done = None, 1
        while done < count and (self._capture.grab() or (self._begin_again() and self._capture.grab())):
            done += 1
        return done

    def _begin_again(self) -> bool:
        """Return whether there is a first frame to go on with. Opened anew: not every format can be wound back."""
        return self.loop and bool(self._capture.open(for_opencv(self.name)))

    def close(self) -> None:
        """Let go of the device or file."""
        self._capture.release()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_INDEXED = {".mp4", ".m4v", ".mov"}


def open_video(path: Path) -> Capture:
    """Open a video file.

    Raises:
        RequestError: it cannot be opened or holds no frame.
    """
    closed = RequestError(f"{path}: cannot be opened as a video; is it one, and is it whole?")
    empty = RequestError(f"{path}: the video holds no frame that can be decoded; give another one")
    with quiet():
        return Capture(cv2.VideoCapture(for_opencv(path)), str(path), False, closed, empty)


def count_frames(path: Path) -> int:
    """Return how many frames a video file holds.

    What the file says of itself is an estimate unless it has an index that it can't be opened without. In others each
    is looked for, but not decoded.

    Raises:
        RequestError: see `open_video`.
    """
    with open_video(path) as capture:
        if capture.total is not None and path.suffix.lower() in _INDEXED:
            return capture.total
    with quiet():
        source = cv2.VideoCapture(for_opencv(path))
        source.set(cv2.CAP_PROP_FORMAT, -1)
        try:
            return next(number for number in itertools.count() if not source.grab())
        finally:
            source.release()


def open_camera(index: int | str) -> Capture:
    """Open a camera by its number or, on Linux, its device file.

    Raises:
        RequestError: it is not there, is in use, or gives no picture.
    """
    found = sorted(str(device) for device in Path("/dev").glob("video*"))
    devices = f"devices here: {', '.join(found)}" if found else "no camera found here"
    closed = RequestError(
        f"source={index}: camera {index} is not there or is in use ({devices}); give the number of another one, a "
        "video or a stream address"
    )
    empty = RequestError(f"source={index}: camera {index} gives no picture; is another program using it?")
    with quiet():
        capture = cv2.VideoCapture(index)
        # Fewer frames waiting in the driver means that what is read is newer; not every driver can.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return Capture(capture, str(index), True, closed, empty)


def open_stream(address: str) -> Capture:
    """Open a network stream.

    Raises:
        DistillError: it cannot be reached or gives no picture.
    """
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_TIMEOUT_MS]
    closed = DistillError(
        f"source={address}: the stream cannot be reached (waited up to {STREAM_TIMEOUT_MS // 1000} s); check the "
        "address and that the camera is on"
    )
    empty = DistillError(f"source={address}: the stream gives no picture that can be decoded")
    with quiet():
        return Capture(cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits), address, True, closed, empty)


def _read(capture: Any) -> Picture | None:
    try:
        done, frame = capture.read()
    except cv2.error:
        return None
    return frame if done and frame is not None and frame.size else None
