"""Frames for a viewer: the newest one, or every one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.letterbox import Picture


@dataclass(frozen=True)
class Shot:
    """A frame and when it was taken.

    Attributes:
        image: (H, W, 3).
        number: place in the source, from 0.
        taken: `time.monotonic()` when it came out of the source, in seconds.
        at: seconds since the first frame, by the source's own clock.
    """

    image: Picture
    number: int
    taken: float
    at: float


class NewestFrame:
    """Reads a source in a thread and keeps only the newest frame, so that a slow viewer sees now and not then.

    A video file is played at its own speed, as if it were a camera.

    Attributes:
        dropped: frames that came and went before they were asked for.
        ended: whether the source has no more frames and the last one was given out.
    """

    def __init__(self, capture: Capture) -> None:
        self.dropped = 0
        self.ended = False
        self._capture = capture
        self._news = threading.Condition()
        self._shot: Shot | None = None
        self._over = False
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def next(self, timeout: float) -> Shot | None:
        """Return the newest frame not yet given out; `None` if none came within `timeout` seconds, or at the end."""
        with self._news:
            self._news.wait_for(lambda: self._shot is not None or self._over, timeout)
            shot, self._shot = self._shot, None
            if shot is None and self._over:
                self.ended = True
                if self._error is not None:
                    raise self._error
            return shot

    def close(self) -> None:
        """Stop reading and let go of the source."""
        self._stop.set()
        self._thread.join(timeout=5)
        # A driver that hangs keeps the thread; releasing under its feet would crash the process.
        if not self._thread.is_alive():
            self._capture.close()

    def _run(self) -> None:
        try:
            if self._capture.live:
                self._read_live()
            else:
                self._play()
        except BaseException as error:
            self._error = error
        with self._news:
            self._over = True
            self._news.notify_all()

    def _read_live(self) -> None:
        start, number = time.monotonic(), 0
        while not self._stop.is_set():
            image = self._capture.read()
            if image is None:
                return
            now = time.monotonic()
            self._publish(Shot(image, number, now, now - start))
            number += 1

    def _play(self) -> None:
        start, number, fps = time.monotonic(), 0, self._capture.fps
        while not self._stop.is_set():
            late = int((time.monotonic() - start) * fps) - number
            if late > 0:
                skipped = self._capture.skip(late)
                with self._news:
                    self.dropped += skipped
                number += skipped
            image = self._capture.read()
            if image is None or self._stop.wait(max(start + number / fps - time.monotonic(), 0)):
                return
            self._publish(Shot(image, number, time.monotonic(), number / fps))
            number += 1

    def _publish(self, shot: Shot) -> None:
        with self._news:
            self.dropped += self._shot is not None
            self._shot = shot
            self._news.notify_all()


class EveryFrame:
    """Reads a video frame by frame, as fast as it is asked; has the face of `NewestFrame`.

    Attributes:
        dropped: always 0.
        ended: whether there are no more frames.
    """

    def __init__(self, capture: Capture) -> None:
        self.dropped = 0
        self.ended = False
        self._capture = capture
        self._number = 0

    def next(self, timeout: float) -> Shot | None:
        """Return the next frame, or `None` at the end."""
        image = self._capture.read()
        if image is None:
            self.ended = True
            return None
        shot = Shot(image, self._number, time.monotonic(), self._number / self._capture.fps)
        self._number += 1
        return shot

    def close(self) -> None:
        """Let go of the source."""
        self._capture.close()
