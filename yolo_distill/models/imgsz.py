"""Pictures that a model takes: sides of the squares, in pixels, and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from yolo_distill.errors import RequestError

#: Of a picture.
LARGEST_SIDE = 8192


def rounded_imgsz(model: torch.nn.Module, imgsz: int | Sequence[int]) -> int:
    """Return the side of square pictures in pixels as the host rounds it when it trains `model`."""
    stride = max(int(cast("Tensor", model.stride).max()), 32)
    return -(-longest_side(imgsz) // stride) * stride


def longest_side(imgsz: Any) -> int:
    """Return the longer side of pictures in pixels.

    Raises:
        RequestError: it is none.
    """
    sides = imgsz if isinstance(imgsz, (list, tuple)) else [imgsz]
    if not sides or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise RequestError(f"imgsz={imgsz}: expected a whole number of pixels, such as 640")
    return max(sides)


def require_side(side: int, model: torch.nn.Module, shown: str = "the model") -> None:
    """Refuse a side of pictures in pixels that `model`, which is called `shown`, does not take.

    Raises:
        RequestError: it is no multiple of the model's stride, or too large.
    """
    stride = max(int(cast("Tensor", model.stride).max()), 32)
    if not 0 < side <= LARGEST_SIDE or side % stride:
        below = min(max(stride, side // stride * stride), LARGEST_SIDE - stride)
        raise RequestError(
            f"imgsz={side}: {shown} takes multiples of {stride} up to {LARGEST_SIDE}, such as {below} or "
            f"{below + stride}"
        )


def trained_imgsz(model: torch.nn.Module) -> int | list[int] | None:
    """Return the `imgsz` that `model` was trained at, in pixels, or None when its `args` do not say."""
    args = getattr(model, "args", None)
    size = args.get("imgsz") if isinstance(args, dict) else getattr(args, "imgsz", None)
    return size if isinstance(size, (int, list)) and not isinstance(size, bool) else None


def channels_of(model: Any) -> int:
    """Return the channels of the pictures that a model of the host takes."""
    return int(model.yaml.get("channels") or 3)


def require_channels(taken: int, data: Mapping[str, Any], shown: str) -> None:
    """Refuse a data set whose pictures have other channels than those of what is called `shown`.

    Raises:
        RequestError: naming both.
    """
    channels = data.get("channels", 3)
    if channels != taken:
        raise RequestError(f"{shown}: takes pictures of {taken} channels, the data has {channels}")


def require_rgb(model: Any, shown: str, what: str) -> None:
    """Refuse a model of other pictures than RGB for `what`.

    Raises:
        RequestError: saying what it takes.
    """
    if (channels := channels_of(model)) != 3:
        raise RequestError(f"{shown}: takes pictures of {channels} channels; {what} takes models of RGB pictures only")
