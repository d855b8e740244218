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

Of other tasks than detection one more column holds a list of float32 for each box, in pixels of the picture; see
`objects.OWN` for its name and `objects` for the numbers.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from yolo_distill.errors import DistillError
from yolo_distill.files import write_bytes
from yolo_distill.labelling.objects import OWN, Found
from yolo_distill.runtime.letterbox import Floats
from yolo_distill.teachers import stored

FOLDER = stored.SOFT
KEPT, EMPTY, SIMILAR, UNREAD = "kept", "empty", "similar", "unread"

_TEXT, _WHOLE = pl.String(), pl.Int32()
_PLAIN: dict[str, pl.DataType] = {
    "number": pl.Int64(),
    "frame": _WHOLE,
    **dict.fromkeys(("source", "state", "note", "file"), _TEXT),
    **dict.fromkeys(("bytes", "width", "height"), _WHOLE),
}


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


def write_part(path: Path, rows: Sequence[Row], classes: int, own: str | None = None) -> None:
    """Write a chunk of any number of rows, with so many scores a box; it is there whole, or not at all.

    `own` is the column of the task's own numbers, where it has some.

    Raises:
        DistillError: the disk cannot be written.
    """
    columns = {key: [getattr(row, key) for row in rows] for key in _PLAIN}
    frame = pl.DataFrame(columns, schema=_PLAIN).with_columns(
        _lists("boxes", [row.found.boxes for row in rows], 4),
        _lists("scores", [row.found.scores for row in rows], classes),
    )
    if own:
        numbers = [[one.tolist() for one in row.found.own] for row in rows]
        frame = frame.with_columns(pl.Series(own, numbers, pl.List(pl.List(pl.Float32))))
    stream = io.BytesIO()
    frame.write_parquet(stream, compression="lz4")
    write_bytes(path, stream.getvalue())


def read_part(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return a chunk, or some of its columns, mapped into memory.

    Raises:
        DistillError: it cannot be read.
    """
    try:
        frame = pl.read_parquet(path, columns=list(columns) if columns else None, memory_map=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DistillError(f"{path}: is not a whole Parquet file ({reason}); delete it, and label again") from None
    for key in columns or (*_PLAIN, "boxes", "scores"):
        kind = frame.schema.get(key)
        if kind != _PLAIN[key] if key in _PLAIN else not isinstance(kind, pl.List):
            raise DistillError(f"{path}: is no part of labels (its column {key} is {kind}); delete it, and label again")
    return frame


def rows_of(frame: pl.DataFrame) -> list[Row]:
    """Return the rows of a whole chunk."""
    plain = frame.select(*_PLAIN).iter_rows(named=True)
    columns = ["boxes", "scores", *(name for name in OWN.values() if name in frame.columns)]
    rows = []
    for values, (boxes, scores, *own) in zip(plain, zip(*(frame[name] for name in columns), strict=True), strict=True):
        numbers = [one.to_numpy() for column in own for one in column]
        rows.append(Row(found=Found(boxes.to_numpy(), scores.to_numpy(), numbers), **values))
    return rows


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
