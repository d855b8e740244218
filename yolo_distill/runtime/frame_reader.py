"""The first stage of watching: a thread that reads frames, and keeps the newest one or every one."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.handoff import Slot
from yolo_distill.runtime.letterbox import Picture


@dataclass(frozen=True)
class Shot:
    """A frame and when it was taken.

    Attributes:
        image: (H, W, 3).
        number: place in the source, from 0.
        taken: `time.monotonic()`, in seconds, when it came out of the source; for a video that plays as a camera, when
            its turn came.
        at: seconds since the first frame, by the source's own clock.
    """

    image: Picture
    number: int
    taken: float
    at: float


class Frames(ABC):
    """Frames of a source, read by a thread of its own."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._slot = Slot[Shot]()
        self._stop = threading.Event()
        self._skipped = 0
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that came and went before they were asked for."""
        return self._slot.replaced + self._skipped

    @property
    def ended(self) -> bool:
        """Whether the source has no more frames, which `next` said."""
        return self._slot.ended

    def next(self, timeout: float) -> Shot | None:
        """Return a frame not yet given out; `None` if none came within `timeout` seconds, or at the end.

        Raises:
            Exception: what reading the source failed with.
        """
        return self._slot.take(timeout)

    def close(self) -> None:
        """Stop reading and let go of the source."""
        self._stop.set()
        self._slot.shut()
        self._thread.join(timeout=5)
        # A driver that hangs keeps the thread; releasing under its feet would crash the process.
        if not self._thread.is_alive():
            self._capture.close()

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self._slot.end(error)
        else:
            self._slot.end()

    @abstractmethod
    def _read(self) -> None:
        """Read frames into the slot until there are no more or `_stop` is set."""


class NewestFrame(Frames):
    """Keeps only the newest frame, so that a slow viewer sees now and not then.

    A video file is played at its own speed, as if it were a camera. What is given out is less than one interval of the
    source old (1 / fps, plus the time to decode), because the next frame takes its place.
    """

    def _read(self) -> None:
        if self._capture.live:
            self._read_live()
        else:
            self._play()

    def _read_live(self) -> None:
        start, number = time.monotonic(), 0
        while not self._stop.is_set() and (image := self._capture.read()) is not None:
            now = time.monotonic()
            self._slot.replace(Shot(image, number, now, now - start))
            number += 1

    def _play(self) -> None:
        start, number, fps = time.monotonic(), 0, self._capture.fps
        while not self._stop.is_set():
            late = int((time.monotonic() - start) * fps) - number
            if late > 0:
                skipped = self._capture.skip(late)
                self._skipped += skipped
                number += skipped
            image, turn = self._capture.read(), start + number / fps
            if image is None or self._stop.wait(max(turn - time.monotonic(), 0)):
                return
            self._slot.replace(Shot(image, number, turn, number / fps))
            number += 1


class EveryFrame(Frames):
    """Keeps each frame until it is asked for; the next one is read meanwhile, and none is dropped."""

    def _read(self) -> None:
        number = 0
        while (image := self._capture.read()) is not None:
            if not self._slot.put(Shot(image, number, time.monotonic(), number / self._capture.fps)):
                return
            number += 1
