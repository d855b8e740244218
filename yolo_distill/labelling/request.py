"""What was asked for, and how the work is cut: into shards, units of a shard, and chunks done whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yolo_distill.address import Mirror
from yolo_distill.cluster import Cluster
from yolo_distill.shard import Shard
from yolo_distill.sources import Sources

#: Pictures of a chunk, and frames of a video's: what a kill can cost.
CHUNK = 64


@dataclass(frozen=True)
class Request:
    """A data set that is to be made: settings of `yolo-distill label`, which explains them, as it reads them.

    Attributes:
        shard: the part of the work that is done.
        cluster: of Ray, whose actors do it; None: this process.
        mirror: of `out` at an address, where pictures and labels are alone; None: all is here.
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
    cluster: Cluster | None = None
    mirror: Mirror | None = None

    @property
    def place(self) -> str:
        """What `out=` was given as."""
        return self.mirror.address.text if self.mirror else str(self.out)


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
        if shard.holds(place):
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
