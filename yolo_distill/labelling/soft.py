"""Soft answers in Parquet: all that the teacher said about a picture, one row a picture, one file a chunk.

What happened to a picture that is not in the data set stands in a row as well, so that of everything that was looked at
there is exactly one row.

    number  of the item among the sources, int64: a picture, or a video, whose frames have `frame` as well
    frame   of a video, from 1, int32; null for a picture
    source  path of the picture or video
    state   kept, empty (nothing was found, and such are not kept), similar (to an earlier frame), unread
    note    why it is unread
    file    name in images/train; null where it is not kept
    bytes   length of its label file, int32
    width, height  in pixels, int32
    boxes   list of (4,) float32: xyxy in pixels of the picture, surest first
    scores  list of (classes,) float32: of each box, what it scores in each class
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import write_bytes
from yolo_distill.labelling.asking import Floats, Found

FOLDER = "soft"
KEPT, EMPTY, SIMILAR, UNREAD = "kept", "empty", "similar", "unread"

_OPEN = 16  # chunks that are kept decoded: those of a few hundred pictures, some megabytes


@dataclass(frozen=True, eq=False)
class Row:
    """What became of one picture, and what the teacher says about it; see the table above."""

    number: int
    source: str
    state: str
    found: Found
    frame: int | None = None
    note: str | None = None
    file: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None


def write_part(path: Path, rows: Sequence[Row], classes: int) -> None:
    """Write a chunk; it is there whole, or not at all.

    Args:
        path: of the file.
        rows: any number, in order.
        classes: scores of a box.

    Raises:
        DistillError: the disk cannot be written.
    """
    columns = {
        key: [getattr(row, key) for row in rows]
        for key in ("number", "frame", "source", "state", "note", "file", "bytes", "width", "height")
    }
    frame = pl.DataFrame(columns, schema=_plain_schema())
    frame = frame.with_columns(
        _lists("boxes", [row.found.boxes for row in rows], 4),
        _lists("scores", [row.found.scores for row in rows], classes),
    )
    stream = io.BytesIO()
    frame.write_parquet(stream, compression="lz4")
    write_bytes(path, stream.getvalue())


def read_part(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return a chunk.

    Args:
        path: of the file, which is mapped into memory.
        columns: those that are wanted; None: all.

    Raises:
        DistillError: it cannot be read.
    """
    try:
        return pl.read_parquet(path, columns=list(columns) if columns else None, memory_map=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DistillError(f"{path}: is not a whole Parquet file ({reason}); delete it, and label again") from None


def rows_of(frame: pl.DataFrame) -> list[Row]:
    """Return the rows of a whole chunk."""
    return [
        Row(found=Found(boxes.to_numpy(), scores.to_numpy()), **plain)
        for boxes, scores, plain in zip(
            frame["boxes"], frame["scores"], frame.drop("boxes", "scores").iter_rows(named=True), strict=True
        )
    ]


def _plain_schema() -> dict[str, pl.DataType]:
    text, whole = pl.String(), pl.Int32()
    return {
        "number": pl.Int64(),
        "frame": whole,
        "source": text,
        "state": text,
        "note": text,
        "file": text,
        "bytes": whole,
        "width": whole,
        "height": whole,
    }


def _lists(name: str, values: Sequence[Floats], width: int) -> pl.Series:
    """Return a column of lists of (width,) float32, one for each (N, width).

    By way of one table of all: made of Python's own lists it takes 25 times as long.
    """
    rows = np.repeat(np.arange(len(values)), [len(value) for value in values])
    flat = np.concatenate([np.zeros((0, width), np.float32), *values])
    table = pl.DataFrame({"row": rows, name: flat}, schema={"row": pl.Int64, name: pl.Array(pl.Float32, width)})
    lists = table.group_by("row", maintain_order=True).agg(name)
    every = pl.DataFrame({"row": np.arange(len(values))}, schema={"row": pl.Int64})
    joined = every.join(lists, on="row", how="left").sort("row")
    return joined.select(pl.col(name).fill_null([]))[name]


class SoftAnswers:
    """The soft answers of a data set, found by the name of a picture in `images/train`.

    Files are mapped, not read: memory stays the same for any number of pictures. The name of a picture begins with its
    number, and that of a file with the number of its first picture, so that there is no index either. A lookup decodes
    one file of 64 pictures, unless it is one of those that were decoded last: some 2 ms.
    """

    def __init__(self, out: Path) -> None:
        """Open the answers beside a data set.

        Args:
            out: folder of the data set.

        Raises:
            RequestError: there are none.
        """
        self._folder = out / FOLDER
        self._parts = sorted(path.name for path in self._folder.glob("part-*.parquet"))
        if not self._parts:
            raise RequestError(f"{out}: holds no soft answers; a folder made by yolo-distill label does")
        self._decoded: OrderedDict[str, tuple[dict[str, int], pl.DataFrame]] = OrderedDict()

    def __getitem__(self, file: str) -> Found:
        """Return what the teacher says about a picture.

        Args:
            file: its name or path in `images/train`.

        Raises:
            KeyError: there is no such picture.
            DistillError: the answers cannot be read.
        """
        name = Path(file).name
        # Parts sort as pictures do: the last one that does not begin behind the picture is the only one to look in.
        place = bisect_right(self._parts, f"part-{name.partition('-')[0]}.z")
        rows, frame = self._part(self._parts[place - 1]) if place else ({}, None)
        if frame is None or name not in rows:
            raise KeyError(file)
        return Found(frame["boxes"][rows[name]].to_numpy(), frame["scores"][rows[name]].to_numpy())

    def _part(self, name: str) -> tuple[dict[str, int], pl.DataFrame]:
        if name in self._decoded:
            self._decoded.move_to_end(name)
        else:
            frame = read_part(self._folder / name, ("file", "boxes", "scores")).filter(pl.col("file").is_not_null())
            self._decoded[name] = ({file: row for row, file in enumerate(frame["file"])}, frame)
            if len(self._decoded) > _OPEN:
                self._decoded.popitem(last=False)
        return self._decoded[name]
