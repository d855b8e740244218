"""The second stage of watching: a thread that runs the detector."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.frame_reader import Frames, Shot
from yolo_distill.runtime.handoff import Slot
from yolo_distill.runtime.letterbox import Picture

_WAIT_SECONDS = 0.2  # how long `close` may go unnoticed


@dataclass(frozen=True)
class Sighting:
    """A frame and what was found in it.

    Attributes:
        shot: the frame.
        found: the detections.
        seconds: how long the detector took.
    """

    shot: Shot
    found: Detections
    seconds: float


class Finder:
    """Runs a detector on frames while others are read and drawn.

    It takes a frame only once its last result was taken: one that had to wait would be old when it is shown, and none
    is computed in vain.

    Attributes:
        broken: why there are no more frames, once `ended`.
    """

    def __init__(self, frames: Frames, find: Callable[[Picture], Detections], silence: float) -> None:
        """Start.

        Args:
            frames: where frames come from; closed by who opened it, after this one.
            find: the detector.
            silence: seconds without a frame after which the source counts as broken.
        """
        self.broken = ""
        self._frames = frames
        self._find = find
        self._silence = silence
        self._slot = Slot[Sighting]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether there are no more frames, which `next` said."""
        return self._slot.ended

    def next(self, timeout: float) -> Sighting | None:
        """Return a frame with its detections; `None` if none came within `timeout` seconds, or at the end.

        Raises:
            DistillError: the network failed.
            Exception: what reading the source failed with.
        """
        return self._slot.take(timeout)

    def close(self) -> None:
        """Stop, once the frame in work is done."""
        self._stop.set()
        self._slot.shut()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._slot.wait_until_free() and (shot := self._wait_for_frame()):
                started = time.monotonic()
                found = self._find(shot.image)
                self._slot.put(Sighting(shot, found, time.monotonic() - started))
        except BaseException as error:
            self._slot.end(error)
        else:
            self._slot.end()

    def _wait_for_frame(self) -> Shot | None:
        """Return a frame; `None` if there are no more, which `broken` then explains, or none is wanted."""
        since = time.monotonic()
        while not self._stop.is_set():
            shot = self._frames.next(_WAIT_SECONDS)
            if shot is not None:
                return shot
            if self._frames.ended:
                self.broken = "it gave no more frames"
                return None
            if time.monotonic() - since > self._silence:
                self.broken = f"it gave nothing for {self._silence:.0f} s"
                return None
        return None
