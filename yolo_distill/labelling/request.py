"""What was asked for, and which part of it this process does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from yolo_distill.errors import RequestError

_MOST_SHARDS = 10_000


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the work.

    Attributes:
        index: of this one, from 1.
        count: of all.
    """

    index: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, place: int) -> bool:
        """Return whether the unit of work at a place, counted from 0, is this shard's."""
        return place % self.count == self.index - 1


def read_shard(text: str | None) -> Shard:
    """Return the shard that `3/16` means; all of the work where nothing is given.

    Raises:
        RequestError: it means none.
    """
    if text is None:
        return Shard()
    index, slash, count = text.strip().partition("/")
    if not slash or not index.strip().isdecimal() or not count.strip().isdecimal():
        raise RequestError(f"shard={text}: expected which of how many, such as 3/16")
    shard = Shard(int(index), int(count))
    if not 1 <= shard.count <= _MOST_SHARDS:
        raise RequestError(f"shard={text}: out of range; there can be 1 to {_MOST_SHARDS:,} shards")
    if not 1 <= shard.index <= shard.count:
        raise RequestError(f"shard={text}: out of range; give one of 1/{shard.count} to {shard.count}/{shard.count}")
    return shard


@dataclass(frozen=True)
class Request:
    """A data set that is to be made.

    Attributes:
        teacher: whose answers become labels; see `yolo_distill.engine.teachers`.
        source: pictures, folders, patterns and videos, with commas.
        out: folder of the data set.
        data: a labelled data set: thresholds are chosen on its val split, and its classes are those of the new one.
        conf: threshold of every class that has none of its own.
        imgsz: side in pixels of the squares that the teacher sees; None: what it was trained at, or 640.
        batch: pictures at a time.
        device: as the host has it.
        every: look at every n-th frame of a video.
        similar: bits of 64 in which the hashes of two frames may differ for the later one to be left out; 0: none is.
        keep_empty: whether a picture in which nothing was found is kept, without a box.
        copy: whether pictures are copied rather than linked.
        class_map: file that says which of the teacher's classes become which.
        shard: the part of the work that is done.
        teacher_weights: of a torchvision teacher.
        teacher_names: class names of torchvision weights that bring none.
        teacher_outputs: description of an ONNX teacher's outputs.
        trust: load checkpoints without the restricted loader.
    """

    teacher: str
    source: str
    out: Path
    data: str | None = None
    conf: float = 0.25
    imgsz: int | None = None
    batch: int = 16
    device: str | None = None
    every: int = 10
    similar: int = 4
    keep_empty: bool = True
    copy: bool = False
    class_map: str | None = None
    shard: Shard = field(default_factory=Shard)
    teacher_weights: str | None = None
    teacher_names: str | None = None
    teacher_outputs: str | None = None
    trust: bool = False
