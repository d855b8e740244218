"""A chunk in the making: the teacher is asked, pictures and labels are written, and at the end the Parquet file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from yolo_distill.files import printable
from yolo_distill.labelling.dataset import DataSet, text_of
from yolo_distill.labelling.inference import Fitted, Floats, Found, Predictor
from yolo_distill.labelling.parquet import EMPTY, KEPT, UNREAD, Row, write_part
from yolo_distill.labelling.thresholds import hard_labels
from yolo_distill.labelling.throughput import Throughput
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.progress import Progress


@dataclass(frozen=True)
class Tools:
    """What every chunk is made with.

    Attributes:
        predictor: the teacher.
        thresholds: score from which on a box of a class becomes a label, (targets,).
        data_set: where pictures and labels go.
        folder: where the Parquet files go.
        batch: pictures that the teacher is asked about at once.
        keep_empty: whether a picture in which nothing was found is kept.
        throughput: counts.
        progress: says it.
    """

    predictor: Predictor
    thresholds: Floats
    data_set: DataSet
    folder: Path
    batch: int
    keep_empty: bool
    throughput: Throughput
    progress: Progress


@dataclass(frozen=True, eq=False)
class Waiting:
    """A picture that the teacher has yet to be asked about.

    Attributes:
        number: of the item.
        source: path of the picture or video.
        frame: of the video; None for a picture.
        file: name that it gets in the data set.
        fitted: as the teacher sees it.
        image: a frame, (H, W, 3); None for a picture, which is there already.
    """

    number: int
    source: str
    frame: int | None
    file: str
    fitted: Fitted
    image: Picture | None = None


class Chunk:
    """Pictures that are done together, or not at all."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._rows: list[Row] = []
        self._waiting: list[Waiting] = []

    def add(self, picture: Waiting) -> None:
        """Take a picture, and ask about a batch once there is one.

        Raises:
            DistillError: the disk cannot be written.
        """
        self._waiting.append(picture)
        if len(self._waiting) >= self._tools.batch:
            self._ask()

    def leave_out(self, number: int, source: str, state: str, *, frame: int | None = None, note: str = "") -> None:
        """Note what is not looked at, and why; what cannot be read is named."""
        classes = len(self._tools.thresholds)
        named = printable(source)
        self._rows.append(Row(number, named, state, Found.nothing(classes), frame, note or None))
        self._tools.throughput.step()
        if state == UNREAD:
            self._tools.throughput.skipped += 1
            self._tools.progress.say(f"{named}: {note}{'' if frame else '; skipped'}")

    def close(self, name: str) -> None:
        """Finish the chunk under the name of its file.

        Raises:
            DistillError: the disk cannot be written.
        """
        if self._waiting:
            self._ask()
        self._rows.sort(key=lambda row: (row.number, row.frame or 0))
        write_part(self._tools.folder / name, self._rows, len(self._tools.thresholds))

    def _ask(self) -> None:
        tools = self._tools
        answers = tools.predictor([picture.fitted for picture in self._waiting])
        for picture, found in zip(self._waiting, answers, strict=True):
            self._rows.append(self._written(picture, found))
        tools.throughput.step(len(self._waiting))
        tools.progress.report(str(tools.throughput))
        self._waiting = []

    def _written(self, picture: Waiting, found: Found) -> Row:
        """Write a picture and its labels; return its row."""
        tools = self._tools
        height, width = picture.fitted.transform.picture
        row = Row(picture.number, printable(picture.source), EMPTY, found, picture.frame, width=width, height=height)
        classes, margins = hard_labels(found.scores, tools.thresholds)
        if not tools.keep_empty and not (margins >= 0).any():
            return row
        text = text_of(found, classes, margins >= 0, (height, width))
        tools.data_set.add(picture.file, picture.source if picture.image is None else picture.image, text)
        return replace(row, state=KEPT, file=picture.file, bytes=len(text))
