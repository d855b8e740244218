"""In which form a file takes pictures, and pictures in that form.

Two forms exist. Floats: (B, 3, H, W), red, green, blue, 0 to 1, as the host exports them. Bytes: (B, H, W, 3) uint8, as
OpenCV and cameras give pictures; whatever the network needs besides is then done in the file. Its metadata says so:
`input_layout` "NHWC" (else "NCHW"), `input_range` "0-255" (else "0-1"), `input_colour` "BGR" or "RGB" (the latter if it
does not say).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolo_distill.errors import RequestError
from yolo_distill.runtime.letterbox import PADDING, Picture, Transform, fit, letterbox, resize
from yolo_distill.runtime.metadata import Metadata
from yolo_distill.session_options import require_size

Tensor = npt.NDArray[Any]  # uint8, float16 or float32

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class InputForm:
    """The form of a file's input.

    Attributes:
        name: of the input in the graph.
        dtype: float32 or float16 for (B, 3, H, W), uint8 for (B, H, W, 3).
        blue_first: whether bytes are in the order blue, green, red; floats never are.
        batch: pictures at a time; `None` for any number.
        imgsz: height and width in pixels where they are fixed.
    """

    name: str
    dtype: Any
    blue_first: bool
    batch: int | None
    imgsz: tuple[int, int] | None

    def empty(self, count: int, imgsz: tuple[int, int]) -> Tensor:
        """Return an input for so many pictures of (height, width), not filled yet."""
        shape = (count, *imgsz, 3) if self.dtype is np.uint8 else (count, 3, *imgsz)
        return np.empty(shape, self.dtype)

    def fill(self, place: Tensor, image: Picture) -> Transform:
        """Lay a picture (H, W, 3), blue, green, red, into its `place` in an input; return how it lies there.

        Args:
            place: (3, height, width) of floats, or (height, width, 3) of bytes; all of it is written.
            image: the picture.
        """
        if self.dtype is np.uint8:
            _, transform = letterbox(image, (place.shape[0], place.shape[1]), place)
            if not self.blue_first:
                cv2.cvtColor(place, cv2.COLOR_BGR2RGB, dst=place)
            return transform
        transform = fit((image.shape[0], image.shape[1]), (place.shape[1], place.shape[2]))
        levels = self._levels
        bits = place.view(levels.dtype)
        for plane, channel in zip(bits, reversed(cv2.split(resize(image, transform))), strict=True):
            # Straight into the input; OpenCV needs no more of a target than rows without gaps.
            cv2.LUT(channel, levels, dst=plane[transform.inside])
        for rows, columns in transform.padding:
            bits[:, rows, columns] = levels[PADDING]
        return transform

    @cached_property
    def _levels(self) -> Tensor:
        """The network's number for each of the 256 brightnesses: divided in float32, as the host does."""
        levels = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(self.dtype)
        # OpenCV's tables know no float16; which bits it moves is all the same to it.
        return levels.view(np.uint16) if self.dtype is np.float16 else levels


def input_form(inputs: Sequence[Any], notes: Metadata, file: str) -> InputForm:
    """Return the form that a session's inputs have.

    Args:
        inputs: of the session; there has to be one.
        notes: the metadata; it has to say the same.
        file: the file's name, for errors.

    Raises:
        RequestError: the input has neither form, or the metadata says another one than it has, or a size that it does
            not take.
    """
    shapes = ", ".join(str(tuple(one.shape)) for one in inputs)
    one = inputs[0] if len(inputs) == 1 and len(inputs[0].shape) == 4 else None
    said = (notes.input_layout, notes.input_range)
    dtype = _DTYPES.get(one.type) if one else None
    bytes_in = dtype is np.uint8
    channels = one.shape[3 if bytes_in else 1] if one else 0
    if one is None or dtype is None or (isinstance(channels, int) and channels != 3):
        kinds = ", ".join(str(one.type) for one in inputs)
        raise RequestError(
            f"{file}: the model takes {shapes}; expected one input of shape (B, 3, H, W), float32 or float16, or "
            f"(B, H, W, 3), uint8 (its type: {kinds})"
        )
    right = ("NHWC", "0-255") if bytes_in else ("NCHW", "0-1")
    if said != right or (not bytes_in and notes.input_colour != "RGB"):
        colour = "BGR or RGB" if bytes_in else "RGB"
        raise RequestError(
            f"{file}: the model takes {one.type} {shapes}, but its metadata says input_layout={said[0]} "
            f"input_range={said[1]} input_colour={notes.input_colour}; expected {right[0]}, {right[1]} and {colour} "
            "for such an input; export it again"
        )
    batch, sides = one.shape[0], one.shape[1:3] if bytes_in else one.shape[2:]
    require_size([batch, *sides], file)
    fixed = all(isinstance(side, int) for side in sides)
    if not fixed and any(side % notes.stride for side in notes.imgsz):
        raise RequestError(
            f"{file}: the model takes {shapes}, but imgsz = {notes.imgsz} in its metadata is no multiple of its "
            f"stride, {notes.stride}; export it again"
        )
    return InputForm(
        name=one.name,
        dtype=dtype,
        blue_first=notes.input_colour == "BGR",
        batch=batch if isinstance(batch, int) else None,
        imgsz=(sides[0], sides[1]) if fixed else None,
    )
