"""Goes through pictures and videos, chunk after chunk: asks the teacher, writes what it says, skips what is done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from yolo_distill.address import Address, download
from yolo_distill.errors import RequestError
from yolo_distill.files import is_address, printable
from yolo_distill.labelling.dataset import DataSet, file_name
from yolo_distill.labelling.frames import Frames
from yolo_distill.labelling.inference import Fitted, Predictor
from yolo_distill.labelling.journal import Journal
from yolo_distill.labelling.objects import OWN, Found
from yolo_distill.labelling.parquet import EMPTY, FOLDER, KEPT, SIMILAR, UNREAD, Row, write_part
from yolo_distill.labelling.request import CHUNK, Request, Unit, item_name, part_name
from yolo_distill.labelling.thresholds import hard_labels
from yolo_distill.labelling.throughput import Throughput
from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.letterbox import Floats, Picture
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.sources import why_unread
from yolo_distill.temporary import temporary_folder

_SMALLEST = 10  # pixels of a side; Ultralytics trains on no smaller picture


class Labeller:
    """Does units of work."""

    def __init__(
        self, request: Request, predictor: Predictor, thresholds: Floats, throughput: Throughput, progress: Progress
    ) -> None:
        """Prepare; a box of a class is a label from its threshold on, (targets,)."""
        self.request, self.predictor, self.thresholds = request, predictor, thresholds
        self.throughput, self.progress = throughput, progress

    def do(self, unit: Unit, pool: ThreadPoolExecutor) -> None:
        """Do a unit, or what is left of it, with threads that read pictures ahead.

        Raises:
            DistillError: the disk cannot be written; what is done stays done.
        """
        mirror, fetched = self.request.mirror, any(map(is_address, unit.files))
        with temporary_folder() if mirror or fetched else nullcontext(self.request.out) as folder:
            self.folder = folder / "out" if mirror else self.request.out
            # Of a link what it leads to is put at an address.
            self.data_set = DataSet(self.folder, copy=self.request.copy or (fetched and not mirror))
            self.data_set.make_folders()
            self.journal = Journal(self.folder, self.data_set, self.request.every)
            if mirror:
                self.journal = Journal(folder / "done", None, self.request.every)
                self._fetch_parts(unit, mirror.address, folder / "done")
            self._do(unit, folder / "in", pool)

    def _do(self, unit: Unit, folder: Path, pool: ThreadPoolExecutor) -> None:
        """Do a unit, whose files are fetched into a folder where they are at addresses."""
        done = self.journal.unit_done(unit.first, unit.video)
        if unit.video and done:
            self.throughput.open_video(0)
        elif unit.video:
            self._video(unit.first, unit.files[0], *download(unit.files, folder, "source"))
        elif done:
            self.throughput.step(len(unit.files), worked=False)
        else:
            chunk, files = Chunk(self), download(unit.files, folder, "source")
            read = self.predictor.read_ahead(pool, files, 2 * self.request.batch)
            for number, (source, file, fitted) in enumerate(zip(unit.files, files, read, strict=True), unit.first):
                if fitted is None:
                    chunk.leave_out(number, source, UNREAD, note=why_unread(file))
                elif min(fitted.transform.picture) < _SMALLEST:
                    chunk.leave_out(number, source, UNREAD, note=f"is smaller than {_SMALLEST} pixels")
                else:
                    chunk.add(number, source, fitted, file)
            chunk.close(part_name(unit.first))

    def _video(self, number: int, path: str, file: str) -> None:
        try:
            capture = open_video(Path(file))
        except RequestError as error:
            self.throughput.open_video(1)
            chunk = Chunk(self)
            chunk.leave_out(number, path, UNREAD, note=str(error).removeprefix(f"{file}: "))
            chunk.close(part_name(number, 1, last=True))
            return
        with capture:
            self.throughput.open_video(-(-(capture.total or 0) // self.request.every))
            self._frames(number, path, Frames(capture, self.request.every, self.request.similar))

    def _frames(self, number: int, path: str, frames: Frames) -> None:
        """Label frames; those of chunks that are done are only looked at to tell later ones that are like them."""
        chunk, first, kept, done = Chunk(self), 1, 0, self._chunk_done(number, 1)
        for frame, image, new in frames:
            if kept == CHUNK:
                if not done:
                    chunk.close(part_name(number, first))
                chunk, first, kept, done = Chunk(self), frame, 0, self._chunk_done(number, frame)
            kept += new
            if done:
                self.throughput.step(worked=False)
            elif new:
                chunk.add(number, path, self.predictor.fit(image), image, frame)
            else:
                chunk.leave_out(number, path, SIMILAR, frame=frame)
        if done:
            return
        if frames.cut_off:
            chunk.leave_out(number, path, UNREAD, frame=frames.seen + 1, note=frames.cut_off)
        chunk.close(part_name(number, first, last=True))

    @staticmethod
    def _fetch_parts(unit: Unit, address: Address, folder: Path) -> None:
        """Fetch the files of what is done of a unit at an address."""
        names = [f"{FOLDER}/{part_name(unit.first)}"]
        if unit.video:
            begins = f"{FOLDER}/part-{item_name(unit.first)}_"
            names = [name for name in address.find(FOLDER) if name.startswith(begins)]
        for name in names:
            address.get(name, folder / name)

    def _chunk_done(self, number: int, first: int) -> bool:
        return self.journal.chunk_done(part_name(number, first), part_name(number, first, last=True))


class Chunk:
    """Pictures that are done together, or not at all: at the end the Parquet file is written."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller
        self._nothing = Found.nothing(len(labeller.thresholds))
        self._rows: list[Row] = []
        # What the teacher has yet to be asked about: the row, the path or the frame, and as the teacher sees it.
        self._waiting: list[tuple[Row, str | Picture, Fitted]] = []

    def add(self, number: int, source: str, fitted: Fitted, picture: str | Picture, frame: int | None = None) -> None:
        """Take a picture by its file here, or a frame (H, W, 3) of a video, and ask about a batch once there is one.

        Raises:
            DistillError: the disk cannot be written.
        """
        height, width = fitted.transform.picture
        file = file_name(number, source, frame)
        row = Row(number, printable(source), KEPT, self._nothing, frame, file=file, width=width, height=height)
        self._waiting.append((row, picture, fitted))
        if len(self._waiting) >= self._labeller.request.batch:
            self._ask()

    def leave_out(self, number: int, source: str, state: str, *, frame: int | None = None, note: str = "") -> None:
        """Note what is not looked at, and why; what cannot be read is named."""
        named = printable(source)
        self._rows.append(Row(number, named, state, self._nothing, frame, note or None))
        self._labeller.throughput.step()
        if state == UNREAD:
            self._labeller.throughput.skipped += 1
            self._labeller.progress.say(f"{named}: {note}{'' if frame else '; skipped'}")

    def close(self, name: str) -> None:
        """Finish the chunk under the name of its file.

        Raises:
            DistillError: the disk cannot be written.
        """
        if self._waiting:
            self._ask()
        self._rows.sort(key=lambda row: (row.number, row.frame or 0))
        labeller = self._labeller
        own = OWN.get(labeller.predictor.form.task)
        write_part(labeller.folder / FOLDER / name, self._rows, len(labeller.thresholds), own)
        if labeller.request.mirror:
            labeller.request.mirror.address.give(labeller.folder)

    def _ask(self) -> None:
        labeller = self._labeller
        answers = labeller.predictor([fitted for *_, fitted in self._waiting])
        for (row, picture, fitted), found in zip(self._waiting, answers, strict=True):
            row = replace(row, found=found)
            classes, margins = hard_labels(found.scores, labeller.thresholds)
            if labeller.request.keep_empty or (margins >= 0).any():
                sure = margins >= 0
                text = labeller.predictor.form.text(found[sure], classes[sure], fitted.transform.picture)
                labeller.data_set.add(str(row.file), picture, text)
                self._rows.append(replace(row, bytes=len(text)))
            else:
                self._rows.append(replace(row, state=EMPTY, file=None))
        labeller.throughput.step(len(self._waiting))
        labeller.progress.report(str(labeller.throughput))
        self._waiting = []
