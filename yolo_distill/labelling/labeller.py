"""Goes through pictures and videos, chunk after chunk, and passes over what is done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from yolo_distill.errors import RequestError
from yolo_distill.labelling.chunk import Chunk, Tools, Waiting
from yolo_distill.labelling.dataset import file_name
from yolo_distill.labelling.frames import Frames
from yolo_distill.labelling.inference import Fitted
from yolo_distill.labelling.journal import Journal
from yolo_distill.labelling.parquet import SIMILAR, UNREAD
from yolo_distill.labelling.prefetch import prefetch
from yolo_distill.labelling.request import CHUNK, Unit, part_name
from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.sources import read_picture, why_unread


class Labeller:
    """Does units of work."""

    def __init__(self, tools: Tools, journal: Journal, pool: ThreadPoolExecutor, *, every: int, similar: int) -> None:
        """Prepare.

        Args:
            tools: what chunks are made with.
            journal: tells what is done.
            pool: threads that read pictures ahead.
            every: look at every n-th frame of a video.
            similar: bits in which two frames may differ to be alike.
        """
        self._tools, self._journal, self._pool = tools, journal, pool
        self._every, self._similar = every, similar

    def do(self, unit: Unit) -> None:
        """Do a unit, or what is left of it.

        Raises:
            DistillError: the disk cannot be written; what is done stays done.
        """
        done = self._journal.unit_done(unit.first, unit.video)
        if unit.video and done:
            self._tools.throughput.open_video(0)
        elif unit.video:
            self._video(unit.first, unit.files[0])
        elif done:
            self._tools.throughput.step(len(unit.files), worked=False)
        else:
            self._pictures(unit)

    def _pictures(self, unit: Unit) -> None:
        chunk = Chunk(self._tools)
        read = prefetch(self._pool, self._read, unit.files, 2 * self._tools.batch)
        for number, (path, fitted) in enumerate(zip(unit.files, read, strict=True), unit.first):
            if fitted is None:
                chunk.leave_out(number, path, UNREAD, note=why_unread(path))
            else:
                chunk.add(Waiting(number, path, None, file_name(number, path), fitted))
        chunk.close(part_name(unit.first))

    def _read(self, path: str) -> Fitted | None:
        image = read_picture(path)
        return None if image is None else self._tools.predictor.fit(image)

    def _video(self, number: int, path: str) -> None:
        throughput = self._tools.throughput
        try:
            capture = open_video(Path(path))
        except RequestError as error:
            throughput.open_video(1)
            chunk = Chunk(self._tools)
            chunk.leave_out(number, path, UNREAD, note=str(error).removeprefix(f"{path}: "))
            chunk.close(part_name(number, 1, last=True))
            return
        with capture:
            throughput.open_video(-(-(capture.total or 0) // self._every))
            self._frames(number, path, Frames(capture, self._every, self._similar))

    def _frames(self, number: int, path: str, frames: Frames) -> None:
        """Label frames; those of chunks that are done are only looked at to tell later ones that are like them."""
        chunk, first, kept, done = Chunk(self._tools), 1, 0, self._chunk_done(number, 1)
        for frame in frames:
            if kept == CHUNK:
                if not done:
                    chunk.close(part_name(number, first))
                chunk, first, kept, done = Chunk(self._tools), frame.number, 0, self._chunk_done(number, frame.number)
            kept += frame.new
            if done:
                self._tools.throughput.step(worked=False)
            elif frame.new:
                file, fitted = file_name(number, path, frame.number), self._tools.predictor.fit(frame.image)
                chunk.add(Waiting(number, path, frame.number, file, fitted, frame.image))
            else:
                chunk.leave_out(number, path, SIMILAR, frame=frame.number)
        if done:
            return
        if frames.cut_off:
            chunk.leave_out(number, path, UNREAD, frame=frames.seen + 1, note=frames.cut_off)
        chunk.close(part_name(number, first, last=True))

    def _chunk_done(self, number: int, first: int) -> bool:
        return self._journal.chunk_done(part_name(number, first), part_name(number, first, last=True))
