"""How the work is cut: units that belong to one shard each, and chunks, each of which is done or not done at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolo_distill.labelling.request import Shard
from yolo_distill.sources import Sources

#: Pictures of a chunk, and frames of a video's: what a kill can cost.
CHUNK = 64


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
