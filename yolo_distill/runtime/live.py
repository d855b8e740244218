"""Runs a detector on a camera, a stream or a video that plays as a camera, and shows what it finds."""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolo_distill.errors import DistillError
from yolo_distill.runtime.camera import EveryFrame, NewestFrame, Shot
from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.drawing import draw, draw_note
from yolo_distill.runtime.interrupt import Interrupt
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.screen import Screen
from yolo_distill.runtime.writers import Video

_WAIT_SECONDS = 0.2  # how long Ctrl-C may go unnoticed
_SILENCE_SECONDS = 15.0
_FPS_FRAMES = 30


@dataclass
class LiveOutcome:
    """What was seen.

    Attributes:
        shown: frames that went through the detector.
        dropped: frames that were too old when the detector was free.
        detections: objects found in all frames.
        seconds: from the first frame shown to the last.
        latencies: from the moment a frame came out of the source until it was shown, in seconds, for each frame.
        saved: the video, if one was written.
        interrupted: whether Ctrl-C ended it.
    """

    shown: int = 0
    dropped: int = 0
    detections: int = 0
    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    saved: Path | None = None
    interrupted: bool = False

    @property
    def fps(self) -> float:
        """Frames shown a second; 0 where there were fewer than two."""
        return (self.shown - 1) / self.seconds if self.shown > 1 and self.seconds > 0 else 0.0

    def summary(self) -> str:
        """Return the outcome in a few lines."""
        lines = [f"{self.shown} frames shown, {self.dropped} dropped, {self.detections} detections"]
        if self.shown:
            middle, slow = (1e3 * float(value) for value in np.percentile(np.array(self.latencies), (50, 95)))
            lines.append(f"{self.fps:.1f} frames a second, latency {middle:.0f} ms (p50), {slow:.0f} ms (p95)")
        if self.saved:
            lines.append(f"video: {self.saved}")
        return "\n".join(lines)


class Recording:
    """A video that lasts as long as what it shows: frames that were dropped are filled with the one before."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._last: Picture | None = None

    def write(self, image: Picture, at: float) -> None:
        """Add a frame that was taken `at` seconds after the first."""
        place = math.floor(at * self.video.fps + 0.5)
        while self._last is not None and self.video.frames < place:
            self.video.write(self._last)
        # A camera that is faster than its word gives two frames for one place; the first one stands.
        if self.video.frames <= place:
            self.video.write(image)
        self._last = image


class Live:
    """A run of `webcam`."""

    def __init__(
        self,
        detector: Detector,
        capture: Callable[[], Capture],
        *,
        find: dict[str, Any],
        show: bool,
        save: Path | None,
        max_frames: int | None,
        realtime: bool,
        overlay: bool,
        progress: Progress,
    ) -> None:
        """Prepare a run.

        Args:
            detector: the detector.
            capture: opens the source.
            find: conf, iou, max_det, classes: as the detector takes them.
            show: whether to open a window.
            save: video file to write.
            max_frames: end after so many frames.
            realtime: play a video at its own speed and drop what is late; otherwise show each of its frames.
            overlay: whether to write frames a second and latency into the picture.
            progress: is told how it goes.
        """
        self._detector = detector
        self._open = capture
        self._find = find
        self._show = show
        self._save = save
        self._max_frames = max_frames
        self._realtime = realtime
        self._overlay = overlay
        self._progress = progress
        self._outcome = LiveOutcome()
        self._first = 0.0

    def run(self) -> LiveOutcome:
        """Show frames until the source ends, q, Esc or Ctrl-C is pressed, or `max_frames` are shown.

        Raises:
            RequestError: the source cannot be opened, or there is no screen.
            DistillError: a camera or stream broke off (the video so far is kept), the network failed, or the disk
                cannot be written.
        """
        screen = Screen("yolo-distill webcam", "show=false save=out.mp4") if self._show else None
        recording: Recording | None = None
        frames: NewestFrame | EveryFrame | None = None
        try:
            # The first call of a network takes several times as long; the first frame should not wait for it.
            self._detector(np.zeros((*self._detector.imgsz, 3), np.uint8), **self._find)
            capture = self._open()
            if self._save:
                recording = Recording(Video(self._save, capture.fps))
            with Interrupt() as interrupt:
                frames = NewestFrame(capture) if self._realtime or capture.live else EveryFrame(capture)
                broken = self._watch(frames, screen, recording, interrupt)
                self._outcome.dropped = frames.dropped
                self._outcome.interrupted = interrupt.asked
                if recording and recording.video.frames:
                    recording.video.finish()
                    self._outcome.saved = self._save
        finally:
            self._progress.clear()
            if frames:
                frames.close()
            if recording:
                recording.video.discard()
            if screen:
                screen.close()
        if broken and capture.live:
            kept = f"; what was recorded is in {self._save}" if self._outcome.saved else ""
            raise DistillError(
                f"source={capture.name}: {broken} after {self._outcome.shown} frames{kept}; check the camera or the "
                "network and start again"
            )
        return self._outcome

    def _watch(
        self, frames: NewestFrame | EveryFrame, screen: Screen | None, recording: Recording | None, interrupt: Interrupt
    ) -> str:
        """Show frames; return why the source broke off, or an empty text if the user or `max_frames` ended it."""
        outcome, recent = self._outcome, deque[float](maxlen=_FPS_FRAMES)
        heard = time.monotonic()
        while not interrupt.asked and (self._max_frames is None or outcome.shown < self._max_frames):
            shot = frames.next(_WAIT_SECONDS)
            if shot is None:
                if frames.ended:
                    return "it gave no more frames"
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    return f"it gave nothing for {_SILENCE_SECONDS:.0f} s"
                continue
            go_on = self._handle(shot, screen, recording, recent)
            heard = time.monotonic()
            self._progress.report(
                f"{outcome.shown} frames, {_rate(recent):.1f} a second, latency {1e3 * outcome.latencies[-1]:.0f} ms"
            )
            if not go_on:
                break
        return ""

    def _handle(self, shot: Shot, screen: Screen | None, recording: Recording | None, recent: deque[float]) -> bool:
        """Find, draw, show and record one frame; return whether the user wants to go on."""
        outcome = self._outcome
        found = self._detector(shot.image, **self._find)
        go_on = True
        image = draw(shot.image, found) if screen or recording else shot.image
        recent.append(time.monotonic())
        if self._overlay and (screen or recording):
            age = 1e3 * (recent[-1] - shot.taken)
            draw_note(image, f"{_rate(recent):.1f} FPS  {age:.0f} ms  {len(found)} found")
        if screen:
            go_on = screen.show(image)
        now = time.monotonic()
        outcome.latencies.append(now - shot.taken)
        self._first = now if outcome.shown == 0 else self._first
        outcome.shown += 1
        outcome.detections += len(found)
        outcome.seconds = now - self._first
        if recording:
            recording.write(image, shot.at)
        return go_on


def _rate(moments: deque[float]) -> float:
    """Return events a second."""
    span = moments[-1] - moments[0] if len(moments) > 1 else 0.0
    return (len(moments) - 1) / span if span > 0 else 0.0
