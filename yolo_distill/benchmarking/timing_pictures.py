"""The pictures that are timed on, in memory before anything is measured, so that the disk is not."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from yolo_distill.errors import RequestError
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.sources import find, read_picture

_MOST_BYTES = 1 << 29  # half a gigabyte, some fifteen pictures of twelve megapixels
_DRAWN = 4
_DRAWN_SIDES = (480, 640)


def load_pictures(data: str | None, split: str, source: str | None, most: int) -> tuple[list[Picture], str]:
    """Return pictures of `source`, else of a split of `data`, else drawn ones; and where they are from, in words.

    Args:
        data: data set file.
        split: whose pictures.
        source: a picture, a folder or a pattern.
        most: as many at most, evenly spaced over what is there.

    Raises:
        RequestError: there are none, or none that can be decoded.
    """
    if source is not None:
        items = find(source)
        if any(item.open for item in items):
            raise RequestError(f"source={source}: holds videos or is a camera; give a picture or a folder of pictures")
        return _read([item.name for item in items], most, f"source={source}"), source
    if data is not None:
        from yolo_distill.data.dataset import check_data, pictures_of

        files = pictures_of(check_data(data, split), split)
        return _read(files, most, f"data={data}"), f"{data}, {split}"
    return _draw(), "drawn noise"


def _read(files: Sequence[str], most: int, said: str) -> list[Picture]:
    pictures: list[Picture] = []
    room = _MOST_BYTES
    for place in np.linspace(0, len(files) - 1, min(len(files), most)):
        picture = read_picture(files[round(place)])
        if picture is None:
            continue
        room -= picture.nbytes
        if pictures and room < 0:
            break
        pictures.append(picture)
    if not pictures:
        raise RequestError(f"{said}: none of its {len(files)} pictures can be decoded")
    return pictures


def _draw() -> list[Picture]:
    """Return blotches, so that resizing has something to do; detectors find nothing in them."""
    height, width = _DRAWN_SIDES
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (_DRAWN, height // 20, width // 20, 3), dtype=np.uint8)
    return [np.asarray(cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8) for one in small]
