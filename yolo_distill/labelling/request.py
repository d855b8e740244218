"""What was asked for, and how the work is cut: into shards, units of a shard, and chunks done whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yolo_distill.errors import RequestError
from yolo_distill.sources import Sources

#: Pictures of a chunk, and frames of a video's: what a kill can cost.
CHUNK = 64

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
        teacher: whose answers become labels; see `yolo_distill.teachers.loading`.
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


@dataclass(frozen=True)
class Unit:
    """What one shard does as a whole: a chunk of pictures, or a video, which is as many chunks as it turns out to be.

    Attributes:
        first: number of its first item.
        files: its pictures, or the one video.
        video: whether it is a video.
    """

    first: int
    files: list[str]
    video: bool = False


def units(sources: Sources, shard: Shard) -> Iterator[Unit]:
    """Yield a shard's units in order."""
    pictures, videos = sources.pictures, sources.videos
    for place, (first, video) in enumerate(starts(len(pictures), len(videos))):
        if shard.has(place):
            files = [videos[first - len(pictures)]] if video else pictures[first : first + CHUNK]
            yield Unit(first, files, video)


def starts(pictures: int, videos: int) -> Iterator[tuple[int, bool]]:
    """Yield the number of each unit's first item, and whether it is a video, in order."""
    yield from ((first, False) for first in range(0, pictures, CHUNK))
    yield from ((number, True) for number in range(pictures, pictures + videos))


def item_name(number: int, frame: int | None = None) -> str:
    """Return what the names of an item's files begin with, such that they sort as items do.

    Args:
        number: of the item.
        frame: of a video; None for a picture.
    """
    return f"{number:08d}" + ("" if frame is None else f"_{frame:07d}")


def part_name(number: int, frame: int | None = None, *, last: bool = False) -> str:
    """Return the file name of a finished chunk.

    Args:
        number: of its first item.
        frame: its first one, of a video; None for pictures.
        last: whether the video ends with it.
    """
    return f"part-{item_name(number, frame)}{'-end' if last else ''}.parquet"
