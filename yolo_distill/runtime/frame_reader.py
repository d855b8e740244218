"""The first stage of watching: a thread that reads frames, and keeps the newest one or every one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.stage import Stage


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


def read_frames(capture: Capture, *, newest: bool) -> Stage[Shot]:
    """Return the stage that reads frames.

    Args:
        capture: the source; closed by who opened it, once the stage has ended.
        newest: keep the newest frame only, so that a slow viewer sees now and not then. A video file is played at its
            own speed, as if it were a camera. What is given out is less than one interval of the source old (1 / fps,
            plus the time to decode). Otherwise none is dropped.
    """
    frames = _played if newest and not capture.live else _as_they_come
    return Stage(lambda stage: frames(capture, stage), name="capture", newest=newest)


def _as_they_come(capture: Capture, stage: Stage[Shot]) -> Iterator[Shot]:
    start = time.monotonic()
    for number in itertools.count():
        if (image := capture.read()) is None:
            return
        now = time.monotonic()
        yield Shot(image, number, now, now - start if capture.live else number / capture.fps)


def _played(capture: Capture, stage: Stage[Shot]) -> Iterator[Shot]:
    start, number, fps = time.monotonic(), 0, capture.fps
    while True:
        late = int((time.monotonic() - start) * fps) - number
        if late > 0:
            skipped = capture.skip(late)
            stage.dropped += skipped
            number += skipped
        image, turn = capture.read(), start + number / fps
        if image is None or stage.closing.wait(max(turn - time.monotonic(), 0)):
            return
        yield Shot(image, number, turn, number / fps)
        number += 1
