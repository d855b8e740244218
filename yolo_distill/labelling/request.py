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
    """One of several equal parts of the work: which, from 1, of how many."""

    index: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


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
    """A data set that is to be made: settings of `yolo-distill label`, which explains them, as it reads them.

    Attributes:
        shard: the part of the work that is done.
        keep_empty: whether a picture in which nothing was found is kept, without a box.
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

    `first` is the number of its first item among the sources.
    """

    first: int
    files: list[str]
    video: bool = False


def units(sources: Sources, shard: Shard) -> Iterator[Unit]:
    """Yield a shard's units in order."""
    pictures, videos = sources.pictures, sources.videos
    for place, (first, video) in enumerate(starts(len(pictures), len(videos))):
        if place % shard.count == shard.index - 1:
            files = [videos[first - len(pictures)]] if video else pictures[first : first + CHUNK]
            yield Unit(first, files, video)


def starts(pictures: int, videos: int) -> Iterator[tuple[int, bool]]:
    """Yield the number of each unit's first item, and whether it is a video, in order."""
    yield from ((first, False) for first in range(0, pictures, CHUNK))
    yield from ((number, True) for number in range(pictures, pictures + videos))


def item_name(number: int, frame: int | None = None) -> str:
    """Return what the names of an item's files begin with, such that they sort as items do; a picture has no frame."""
    return f"{number:08d}" + ("" if frame is None else f"_{frame:07d}")


def part_name(number: int, frame: int | None = None, *, last: bool = False) -> str:
    """Return the file name of a finished chunk, by its first item and frame, and whether a video ends with it."""
    return f"part-{item_name(number, frame)}{'-end' if last else ''}.parquet"
