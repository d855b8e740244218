"""Which chunks are done: those whose Parquet file is there, and whose pictures and labels are as it says.

A chunk's Parquet file is written after all of its pictures and labels, and under its name all at once. So after a kill
it is there and everything is, or it is not and whatever there is of the chunk is written over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from yolo_distill.errors import DistillError
from yolo_distill.labelling.dataset import DataSet
from yolo_distill.labelling.manifest import Manifest
from yolo_distill.labelling.parquet import FOLDER, read_part
from yolo_distill.labelling.request import part_name, starts


class Journal:
    """Tells what of a data set is done."""

    def __init__(self, out: Path, data_set: DataSet | None, every: int) -> None:
        """Look in the folder of a data set, of which the next frame of a video is `every` frames further.

        Without a `data_set` pictures and labels are at an address, which has no half files.
        """
        self.folder = out / FOLDER
        self._data_set, self._every = data_set, every

    def unit_done(self, first: int, video: bool) -> bool:
        """Return whether a unit is done; of a video, every chunk up to the last one."""
        if not video:
            return self.chunk_done(part_name(first))
        frame = 1
        # Chunk by chunk, each where the one before it ends: of several that were copied here, one may be missing.
        while self.chunk_done(name := part_name(first, frame)):
            frame = int(read_part(self.folder / name, ("frame",))["frame"][-1]) + self._every
        return self.chunk_done(part_name(first, frame, last=True))

    def chunk_done(self, *names: str) -> bool:
        """Return whether a chunk is done, under one of the names that its file may have."""
        return any(self._whole(self.folder / name) for name in names)

    def missing(self, manifest: Manifest) -> Iterator[int]:
        """Yield the places of units that are not done, counted from 0 over all shards."""
        for place, (first, video) in enumerate(starts(manifest.pictures, manifest.videos)):
            if not self.unit_done(first, video):
                yield place

    def _whole(self, part: Path) -> bool:
        if not part.exists():
            return False
        try:
            frame = read_part(part, ("file", "bytes"))
        except DistillError:
            return False
        data_set = self._data_set
        return data_set is None or all(file is None or data_set.has(file, size) for file, size in frame.iter_rows())
