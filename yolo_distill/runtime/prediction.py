"""Runs a detector over pictures and videos and writes what it finds."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError
from yolo_distill.files import claim_folder, remove_partials, write_bytes
from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.detector import DYNAMIC_BATCH, Detector
from yolo_distill.runtime.drawing import draw
from yolo_distill.runtime.interrupt import Interrupt
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import Progress, quiet
from yolo_distill.runtime.sources import Item, read_picture, why_unread
from yolo_distill.runtime.window import Screen
from yolo_distill.runtime.writers import JsonLines, Video, write_picture
from yolo_distill.sources import PICTURES, VIDEOS

STAGES = ("read", "preprocess", "inference", "postprocess", "write")

_BATCH_PIXELS = 32_000_000  # a batch is full at so many, so that it holds no eight posters at once
# Those that OpenCV writes everywhere, and that can hold the colours of boxes.
_PICTURE_SUFFIXES = PICTURES - {".avif", ".dng", ".heic", ".heif", ".mpo", ".pgm"}
_SHOW_MS = 500  # how long a picture stays on the screen


@dataclass
class Outcome:
    """What was done.

    Attributes:
        pictures: pictures that went through the detector.
        frames: frames of videos and cameras that did.
        found: detections by class name.
        skipped: files that could not be decoded.
        seconds: time spent in each stage, by name.
        folder: where the results are, if any were written.
        interrupted: whether Ctrl-C ended it early.
    """

    pictures: int = 0
    frames: int = 0
    found: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    folder: Path | None = None
    interrupted: bool = False

    def summary(self) -> str:
        """Return the outcome in a few lines."""
        count, skipped = self.pictures + self.frames, len(self.skipped)
        kinds = [_count(self.pictures, "picture")] if self.pictures or not self.frames else []
        kinds += [_count(self.frames, "frame")] if self.frames else []
        classes = ", ".join(f"{number} {name}" for name, number in self.found.most_common(8))
        found = _count(self.found.total(), "detection") + (f" ({classes})" if classes else "")
        lines = [f"{' and '.join(kinds)}, {found}"]
        if count:
            stages = ", ".join(f"{name} {1e3 * seconds / count:.1f}" for name, seconds in self.seconds.items())
            lines.append(f"{1e3 * sum(self.seconds.values()) / count:.1f} ms each: {stages}")
        if skipped:
            was = "was" if skipped == 1 else "were"
            lines.append(f"{_count(skipped, 'file')} could not be decoded and {was} skipped")
        if self.folder:
            lines.append(f"results: {self.folder}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Frame:
    """A picture on its way: where it is from, its 1-based place in a video (0 for a picture), seconds to read it."""

    image: Picture
    item: Item
    number: int
    fps: float
    progress: str
    seconds: float


@dataclass
class Prediction:
    """A run of `predict`.

    Attributes:
        detector: the detector.
        items: pictures, and what gives frames.
        progress: where to report how far it is.
        find: conf, iou, max_det, classes, agnostic: as `Detector.postprocess` takes them.
        out: folder for annotated pictures, videos and labels.
        exist_ok: whether to write into `out` itself if it is there, rather than into `out2`.
        save: whether to write annotated pictures and videos.
        save_txt: whether to write YOLO labels.
        save_conf: whether labels hold the confidence.
        jsonl: file for one JSON line a picture.
        vid_stride: take every n-th frame of a video.
        show: whether to show each picture in a window.
    """

    detector: Detector
    items: Sequence[Item]
    progress: Progress
    find: dict[str, Any]
    out: Path
    exist_ok: bool
    save: bool
    save_txt: bool
    save_conf: bool
    jsonl: Path | None
    vid_stride: int
    show: bool

    def __post_init__(self) -> None:
        self._outcome = Outcome()
        self._stems = _unique_stems(self.items)
        self._screen: Screen | None = None
        self._video: Video | None = None
        self._video_of: Item | None = None
        self._jsonl: JsonLines | None = None

    def run(self) -> Outcome:
        """Do it; after Ctrl-C what is open is finished, after an error it is removed.

        Raises:
            RequestError: the only source cannot be opened, or there is no screen.
            DistillError: the network failed, or the disk cannot be written.
        """
        if self.show:
            self._screen = Screen("yolo-distill predict", "show=false (results are written to out=)")
        live = any(item.live for item in self.items)
        step = 1 if live or self.show else self.detector.batch or DYNAMIC_BATCH
        try:
            with Interrupt() as interrupt, quiet():
                self._jsonl = JsonLines(self.jsonl) if self.jsonl else None
                with contextlib.closing(self._frames(interrupt)) as frames:
                    while (batch := _batch(frames, step)) and self._handle(batch):
                        pass
                self._outcome.interrupted = interrupt.asked
                self._finish_video()
                if self._jsonl:
                    self._jsonl.finish()
        finally:
            self.progress.clear()
            for file in (self._video, self._jsonl):
                if file:
                    file.discard()
            if self._screen:
                self._screen.close()
        return self._outcome

    def _frames(self, interrupt: Interrupt) -> Generator[_Frame, None, None]:
        for place, item in enumerate(self.items, 1):
            if interrupt.asked:
                return
            where = f"{place}/{len(self.items)} {item.name}"
            started = time.perf_counter()
            try:
                if item.open is not None:
                    with item.open() as capture:
                        yield from self._frames_of(capture, item, where, interrupt)
                elif (image := read_picture(item.name)) is not None:
                    yield _Frame(image, item, 0, 0.0, where, time.perf_counter() - started)
                else:
                    self._skip(f"{item.name}: {why_unread(item.name)}; skipped")
            except RequestError as error:
                if len(self.items) == 1:
                    raise
                self._skip(f"{error}; skipped")

    def _frames_of(self, capture: Capture, item: Item, where: str, interrupt: Interrupt) -> Iterator[_Frame]:
        stride, number = self.vid_stride, 1
        total = f"/{capture.total}" if capture.total else ""
        while not interrupt.asked:
            started = time.perf_counter()
            image = capture.read()
            if image is None:
                # Not every file behind an address says how many frames it has; its name says that it ends.
                file = Path(item.name.partition("?")[0]).suffix.lower() in PICTURES | VIDEOS
                if capture.live and not file and not interrupt.asked:
                    self._skip(f"{item.name}: gave no more frames after {number - 1}")
                return
            seconds = time.perf_counter() - started
            yield _Frame(image, item, number, capture.fps / stride, f"{where} frame {number}{total}", seconds)
            if capture.skip(stride - 1) < stride - 1:
                return
            number += stride

    def _skip(self, message: str) -> None:
        self._outcome.skipped.append(message)
        self.progress.say(message)

    def _handle(self, batch: Sequence[_Frame]) -> bool:
        """Run one batch and write its results; return whether to go on."""
        seconds = self._outcome.seconds
        clock = [time.perf_counter()]
        tensor, transforms = self.detector.preprocess_batch([frame.image for frame in batch])
        clock.append(time.perf_counter())
        raw = self.detector.infer(tensor)
        clock.append(time.perf_counter())
        results = self.detector.postprocess(raw, transforms, **self.find)
        clock.append(time.perf_counter())
        go_on = True
        for frame, found in zip(batch, results, strict=True):
            self._write(frame, found)
            if self._screen:
                go_on = self._screen.show(draw(frame.image, found), 1 if frame.number else _SHOW_MS) and go_on
        clock.append(time.perf_counter())
        seconds["read"] += sum(frame.seconds for frame in batch)
        for name, start, end in zip(STAGES[1:], clock, clock[1:], strict=False):
            seconds[name] += end - start
        self.progress.report(batch[-1].progress)
        return go_on

    def _write(self, frame: _Frame, found: Detections) -> None:
        outcome, item = self._outcome, frame.item
        outcome.found.update(found.labels())
        outcome.frames += frame.number > 0
        outcome.pictures += frame.number == 0
        height, width = frame.image.shape[:2]
        stem = self._stems[item.name]
        if self._jsonl:
            place = {"frame": frame.number} if frame.number else {}
            # A file's name may be no text at all; JSON has to be.
            name = item.name.encode("utf-8", "backslashreplace").decode()
            head = {"source": name, **place, "width": width, "height": height}
            self._jsonl.write({**head, "detections": found.to_dicts()})
        if self.save_txt:
            folder = self._folder() / "labels"
            folder.mkdir(exist_ok=True)
            text = found.to_yolo(with_confidence=self.save_conf)
            write_bytes(folder / f"{stem}{f'_{frame.number}' if frame.number else ''}.txt", text.encode())
        if self.save and frame.number:
            self._video_for(frame, stem).write(draw(frame.image, found))
        elif self.save:
            suffix = Path(item.name).suffix.lower()
            name = f"{stem}{suffix if suffix in _PICTURE_SUFFIXES else '.jpg'}"
            write_picture(self._folder() / name, draw(frame.image, found))

    def _folder(self) -> Path:
        """Return the folder of this run; it is made with the first result, so that a failed start leaves none."""
        if self._outcome.folder is None:
            self._outcome.folder = claim_folder(self.out, reuse=self.exist_ok)
            remove_partials(self._outcome.folder / "labels")
        return self._outcome.folder

    def _video_for(self, frame: _Frame, stem: str) -> Video:
        if self._video is None or self._video_of is not frame.item:
            self._finish_video()
            self._video, self._video_of = Video(self._folder() / f"{stem}.mp4", frame.fps), frame.item
        return self._video

    def _finish_video(self) -> None:
        if self._video:
            self._video.finish()
        self._video = None


def _batch(frames: Iterator[_Frame], most: int) -> list[_Frame]:
    """Take the next frames, `most` or fewer large ones; none at the end."""
    batch: list[_Frame] = []
    pixels = 0
    while len(batch) < most and pixels < _BATCH_PIXELS and (frame := next(frames, None)):
        batch.append(frame)
        pixels += frame.image.shape[0] * frame.image.shape[1]
    return batch


def _unique_stems(items: Sequence[Item]) -> dict[str, str]:
    """Return a file name without suffix for each item, by the item's name; none twice, nor as a video's frame."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    pictures = [Path(item.name).stem.lower().rpartition("_") for item in items if not item.open]
    framed = {before for before, _, number in pictures if number.isdecimal()}  # clip_7 is a picture, or a frame of clip
    for item in items:
        live_name = f"camera{item.name}" if item.name.isdecimal() else "stream"
        base = live_name if item.live else Path(item.name).stem
        stem, number = base, 1
        others = taken | framed if item.open else taken
        while stem.lower() in others:  # upper and lower case are one on some disks
            number += 1
            stem = f"{base}-{number}"
        taken.add(stem.lower())
        stems[item.name] = stem
    return stems


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
