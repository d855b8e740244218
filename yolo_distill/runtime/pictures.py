"""Whatever a caller may give as a picture, as the array that the runtime works on."""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

import cv2
import numpy as np

from yolo_distill.errors import RequestError
from yolo_distill.runtime.letterbox import Picture


class PilImage(Protocol):
    """A `PIL.Image.Image`, for annotations: Pillow is no dependency."""

    @property
    def mode(self) -> str: ...

    def convert(self, mode: str) -> Any: ...


AnyPicture = Picture | str | os.PathLike[str] | PilImage


def as_picture(given: object, where: str = "") -> Picture:
    """Return a picture as (H, W, 3) uint8, blue, green, red; an array of that kind is returned itself.

    Args:
        given: an array as OpenCV gives it, (H, W, 3), (H, W), (H, W, 1) or (H, W, 4) uint8; the path of a picture; or
            a picture of PIL.
        where: what an error begins with.

    Raises:
        RequestError: it is none of these, or cannot be read.
    """
    if isinstance(given, np.ndarray):
        return _three_channels(given, where)
    if isinstance(given, (str, os.PathLike)):
        return _read(given, where)
    pil = sys.modules.get("PIL.Image")  # whoever has a picture of PIL has imported it
    if pil is not None and isinstance(given, pil.Image):
        return _from_pil(given, where)
    if given is None:
        raise RequestError(
            f"{where}got None in place of a picture, which is what cv2.imread gives for a file that it cannot read; "
            "give the path itself, and the error says why"
        )
    raise RequestError(
        f"{where}got {type(given).__name__}; expected a picture: a path, a PIL picture or a numpy array (H, W, 3) of "
        "uint8"
    )


def _three_channels(image: Picture, where: str) -> Picture:
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in {1, 3, 4} or not image.size:
        raise RequestError(
            f"{where}got an array {image.shape} of {image.dtype}; expected a picture (H, W, 3), (H, W) or (H, W, 4) of "
            "uint8"
        )
    if channels == 3:
        return image
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    converted: Picture = cv2.cvtColor(image, code)
    return converted


def _read(given: str | os.PathLike[str], where: str) -> Picture:
    # Here, because it brings along what opens videos, and sets how much FFmpeg says in this process.
    from yolo_distill.runtime.sources import read_picture, why_unread

    path = os.path.expanduser(given)  # noqa: PTH111  # a Path would change what the error names
    image = read_picture(path)
    if image is None:
        raise RequestError(
            f"{where}{path}: {why_unread(path)}; expected a picture (folders, videos and cameras: yolo-distill predict)"
        )
    return image


def _from_pil(given: Any, where: str) -> Picture:
    """Turned as its EXIF says, 16 bits a channel brought down to 8, alpha dropped: as the host and `read_picture`."""
    from PIL import ImageOps

    if given.mode in {"I", "F"}:
        raise RequestError(
            f"{where}got a PIL picture of mode {given.mode}, of which nobody knows what is white; convert it to L or "
            "RGB first"
        )
    try:
        turned = ImageOps.exif_transpose(given)
        if turned.mode.startswith("I;16"):  # convert() would make white of all above 255
            return _three_channels((np.asarray(turned) >> 8).astype(np.uint8), where)
        rgb = _three_channels(np.asarray(turned.convert("RGB")), where)
    except (OSError, ValueError, SyntaxError) as error:  # cut off, closed, or of a mode without colours; PIL's three
        raise RequestError(f"{where}the PIL picture cannot be read ({error}); give another one") from error
    converted: Picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return converted
