"""Watches a camera, a stream or a video that plays as a camera with a detector, and shows what it finds.

Three stages work at the same time: a thread reads frames (`frame_reader`), a thread runs the detector
(`Live`), and the main thread, the only one that may own a window, draws, shows and writes. Between two stages lies
one thing at most (`stage`), so nothing queues and memory does not grow.

How old is what is shown? A frame's latency runs from the moment it came out of the source until `imshow` returned. In
real time the detector always takes the newest frame, and takes it only once its last result is being drawn, so that

    latency <= inference of this very frame + one interval of the source + drawing and showing

holds for every frame, however slow the detector is: frames in between are dropped, never queued. Where drawing takes
longer than inference, a result waits for the drawing before. With `realtime=False` no frame of a file is dropped;
each may then wait for the one before at both stages.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolo_distill.errors import DistillError
from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.detector import Detector, precision_of
from yolo_distill.runtime.drawing import draw, draw_note
from yolo_distill.runtime.durations import Durations
from yolo_distill.runtime.frame_reader import Shot, read_frames
from yolo_distill.runtime.interrupt import Interrupt
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import Progress, quiet
from yolo_distill.runtime.stage import Stage
from yolo_distill.runtime.window import Screen
from yolo_distill.runtime.writers import JsonLines, Video

_WAIT_SECONDS = 0.05  # how long Ctrl-C or a key may go unnoticed
_FRAME_SECONDS = 0.2  # how long the end of the run may go unnoticed by the detector's thread
_SILENCE_SECONDS = 15.0
_RECENT_FRAMES = 30


@dataclass
class LiveOutcome:
    """What was seen.

    Attributes:
        shown: frames that went through the detector and were drawn, shown or written as was asked.
        dropped: frames that were too old when the detector was free.
        detections: objects found in all frames shown.
        seconds: from the first frame shown to the last.
        latency: from the moment a frame came out of the source until it was shown.
        inference: how long the detector took, from picture to detections.
        beside: latency less inference: waiting, drawing and showing.
        saved: what was written, by kind: "video", "JSON lines".
        interrupted: whether Ctrl-C ended it.
    """

    shown: int = 0
    dropped: int = 0
    detections: int = 0
    seconds: float = 0.0
    latency: Durations = field(default_factory=Durations)
    inference: Durations = field(default_factory=Durations)
    beside: Durations = field(default_factory=Durations)
    saved: dict[str, Path] = field(default_factory=dict)
    interrupted: bool = False

    def summary(self) -> str:
        """Return the outcome in a few lines."""
        lines = [f"{self.shown} frames shown, {self.dropped} dropped, {self.detections} detections"]
        if self.shown:
            fps = (self.shown - 1) / self.seconds if self.seconds > 0 else 0.0
            middle, slow = (1e3 * self.latency.percentile(percent) for percent in (50, 95))
            lines.append(f"{fps:.1f} frames a second, latency {middle:.0f} ms (p50), {slow:.0f} ms (p95)")
            middle, slow = (1e3 * durations.percentile(50) for durations in (self.inference, self.beside))
            lines.append(
                f"of it inference {middle:.0f} ms (p50), all else {slow:.0f} ms (p50), "
                f"{1e3 * self.beside.longest:.0f} ms at most"
            )
        lines += [f"{kind}: {path}" for kind, path in self.saved.items()]
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


@dataclass(frozen=True)
class Sighting:
    """A frame, what was found in it, and how many seconds the detector took."""

    shot: Shot
    found: Detections
    seconds: float


@dataclass
class Live:
    """A run of `webcam`.

    Attributes:
        detector: the detector.
        open: opens the source.
        find: conf, iou, max_det, classes: as the detector takes them.
        show: whether to open a window.
        save: video file to write.
        record: file for one JSON line a frame.
        max_frames: end after so many frames.
        realtime: play a video at its own speed and drop what is late; otherwise show each of its frames.
        overlay: whether to write frames a second, latency, model and precision into the picture.
        progress: where to report how far it is.
    """

    detector: Detector
    open: Callable[[], Capture]
    find: dict[str, Any]
    show: bool
    save: Path | None
    record: Path | None
    max_frames: int | None
    realtime: bool
    overlay: bool
    progress: Progress

    def __post_init__(self) -> None:
        self._model = f"{precision_of(self.detector)}  {self.detector.path.name}"
        self._outcome = LiveOutcome()
        self._screen: Screen | None = None
        self._recording: Recording | None = None
        self._lines: JsonLines | None = None
        self._source = ""
        self._first = 0.0
        self._broken = ""  # why the source gave no more frames
        self._recent = deque[tuple[float, float]](maxlen=_RECENT_FRAMES)  # when it was shown, its latency

    def run(self) -> LiveOutcome:
        """Show frames until the source ends, q, Esc or Ctrl-C is pressed, or `max_frames` are shown.

        Raises:
            RequestError: the source cannot be opened, or there is no screen.
            DistillError: a camera or stream broke off (what was written so far is kept), the network failed, or the
                disk cannot be written.
        """
        self._screen = Screen("yolo-distill webcam", "show=false save=out.mp4") if self.show else None
        stages: list[Stage[Any]] = []
        try:
            # The first call of a network and the first letter take many times as long; no frame should wait for them.
            blank = np.zeros((*self.detector.imgsz, 3), np.uint8)
            self.detector(blank, **self.find)
            draw_note(blank, self._model)
            self._lines = JsonLines(self.record) if self.record else None
            capture = self.open()
            self._source = capture.name
            self._recording = Recording(Video(self.save, capture.fps)) if self.save else None
            with Interrupt() as interrupt, quiet():
                frames = read_frames(capture, newest=self.realtime or capture.live)
                stages.append(frames)
                sightings = Stage(lambda stage: self._detect(frames, stage), name="detector")
                stages.append(sightings)
                source_ended = self._watch(sightings, interrupt)
                self._outcome.dropped = frames.dropped
                self._outcome.interrupted = interrupt.asked
                self._finish_files()
        finally:
            # Files first: threads may take a while to end, and an impatient second Ctrl-C should leave none behind.
            self.progress.clear()
            if self._recording:
                self._recording.video.discard()
            if self._lines:
                self._lines.discard()
            if self._screen:
                self._screen.close()
            if stages[1:]:
                stages[1].close()
            # A driver that hangs keeps its thread; releasing under its feet would crash the process.
            if stages and stages[0].close(timeout=5):
                capture.close()
        if source_ended and capture.live:
            saved = " and ".join(map(str, self._outcome.saved.values()))
            raise DistillError(
                f"source={capture.name}: {self._broken} after {self._outcome.shown} frames"
                f"{f'; what was recorded is in {saved}' if saved else ''}; check the camera or the network and start "
                "again"
            )
        return self._outcome

    def _detect(self, frames: Stage[Shot], stage: Stage[Sighting]) -> Iterator[Sighting]:
        """Run the detector on frames until there are no more, none is wanted, or none came for too long."""
        since = time.monotonic()
        while not stage.closing.is_set():
            shot = frames.take(_FRAME_SECONDS)
            if shot is not None:
                started = time.monotonic()
                found = self.detector(shot.image, **self.find)
                yield Sighting(shot, found, time.monotonic() - started)
                since = time.monotonic()
            elif frames.ended:
                self._broken = "it gave no more frames"
                return
            elif time.monotonic() - since > _SILENCE_SECONDS:
                self._broken = f"it gave nothing for {_SILENCE_SECONDS:.0f} s"
                return

    def _watch(self, sightings: Stage[Sighting], interrupt: Interrupt) -> bool:
        """Show frames; return whether the source ended it, and not the user or `max_frames`."""
        outcome, go_on = self._outcome, True
        while go_on and not interrupt.asked and (self.max_frames is None or outcome.shown < self.max_frames):
            sighting = sightings.take(_WAIT_SECONDS)
            if sighting is not None:
                go_on = self._handle(sighting)
                self.progress.report(f"{outcome.shown} frames, {self._rate()}")
            elif sightings.ended:
                return True
            else:
                go_on = self._screen is None or self._screen.wait(1)
        return False

    def _handle(self, sighting: Sighting) -> bool:
        """Draw, show and write one frame; return whether the user wants to go on."""
        outcome, shot, found = self._outcome, sighting.shot, sighting.found
        go_on = True
        image = shot.image
        if self._screen or self._recording:
            image = draw(image, found)
            if self.overlay:
                rate = f"{self._rate()}  " if self._recent else ""
                draw_note(image, f"{rate}{len(found)} found", self._model)
        if self._screen:
            go_on = self._screen.show(image)
        now = time.monotonic()
        latency = now - shot.taken
        self._recent.append((now, latency))
        self._first = now if outcome.shown == 0 else self._first
        outcome.shown += 1
        outcome.detections += len(found)
        outcome.seconds = now - self._first
        outcome.latency.add(latency)
        outcome.inference.add(sighting.seconds)
        outcome.beside.add(latency - sighting.seconds)
        if self._recording:
            self._recording.write(image, shot.at)
        if self._lines:
            height, width = shot.image.shape[:2]
            head = {"source": self._source, "frame": shot.number + 1, "time": round(shot.at, 4)}
            self._lines.write({**head, "width": width, "height": height, "detections": found.to_dicts()})
        return go_on

    def _rate(self) -> str:
        """Return frames a second and latency, both over the frames shown last."""
        span = self._recent[-1][0] - self._recent[0][0]
        rate = (len(self._recent) - 1) / span if span > 0 else 0.0
        latency = sum(latency for _, latency in self._recent) / len(self._recent)
        return f"{rate:.1f} FPS  {1e3 * latency:.0f} ms"

    def _finish_files(self) -> None:
        """Give what was written its names; the lines first, which a video that failed should not take along."""
        if self._lines:
            self._lines.finish()
            self._outcome.saved["JSON lines"] = self._lines.path
        if self._recording and self._recording.video.frames:
            self._recording.video.finish()
            self._outcome.saved["video"] = self._recording.video.path
