"""A few pictures of the run, to measure on and to calibrate with before it starts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.data.utils import get_split_fraction
from ultralytics.utils.patches import imread

from yolo_distill.data.dataset import pictures_of
from yolo_distill.models.checkpoint import no_auto_install


def reading_flag(channels: int) -> int:
    """Return OpenCV's flag by which the host reads pictures of so many channels."""
    return {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)


@no_auto_install()
def read_picture(file: str, flag: int) -> Any:
    """Return a picture as the host reads it, or None where it cannot be read, or has more pixels than are decoded."""
    try:
        return imread(file, flag)
    except cv2.error:
        return None


def shown_of(pictures: int, fraction: Any) -> int:
    """Return how many of a training split's sorted pictures a run sees, the first ones, by Ultralytics' `fraction=`.

    Relies on: the host counts them so in its `BaseDataset.get_img_files`.
    """
    part = get_split_fraction(fraction, "train")
    return min(part, pictures) if isinstance(part, int) else max(1, round(pictures * part))


def read_samples(
    data: dict[str, Any], size: tuple[int, int], count: int, fraction: Any = 1.0
) -> list[npt.NDArray[np.uint8]]:
    """Return pictures of the training split, evenly spaced over its files, letterboxed and not augmented.

    Up to `count` of a height and width in pixels, RGB (or the data's channels), each (C, height, width), of those that
    a run of `fraction=` sees; files that cannot be read are left out.
    """
    channels = int(data.get("channels", 3))
    flag = reading_flag(channels)
    files = pictures_of(data, "train")
    files = sorted(set(files[: shown_of(len(files), fraction)]))  # a list may name one more than once
    letterbox = LetterBox(size, scaleup=True)
    pictures = []
    for at in np.linspace(0, len(files) - 1, min(len(files), count)):
        picture = read_picture(files[round(at)], flag)
        if picture is not None and picture.shape[-1] == channels:
            pictures.append(letterbox(image=picture)[..., :: -1 if channels == 3 else 1].transpose(2, 0, 1))
    return pictures


def sample_pictures(data: dict[str, Any], imgsz: int, count: int, fraction: Any = 1.0) -> Tensor:
    """Return what `read_samples` does, as a tensor in 0..1 of shape (N, C, imgsz, imgsz).

    Where no file can be read, which is for the host to complain about, one grey picture.
    """
    pictures = read_samples(data, (imgsz, imgsz), count, fraction)
    if not pictures:
        pictures = [np.full((int(data.get("channels", 3)), imgsz, imgsz), 114, np.uint8)]
    return torch.from_numpy(np.stack(pictures)).float() / 255


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the global random states of Python, numpy and torch (CPU) back at the end."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
