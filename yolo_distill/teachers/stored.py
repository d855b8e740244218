"""Answers that a teacher gave once, in a folder that `yolo-distill label` wrote, in place of the teacher itself.

For teachers that are too slow to be asked in every step. What was said about a picture holds for all augmented views of
it: the boxes travel through the augmentation with those of the ground truth (`data/stored_answers.py`), and their class
vectors are looked up here.

The Parquet files, made to be kept and moved, are laid out once more as plain arrays, which are mapped into memory: a
run's memory is the same for any number of pictures, and its loaders share it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.teachers.answer import SetAnswer, make_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.teacher import Teacher

#: What `yolo-distill label` calls its files; `file`, `boxes` and `scores` are columns of the Parquet files.
PLAN, DATA, PICTURES, SOFT = "label.json", "data.yaml", Path("images") / "train", "soft"
#: Of a batch: the boxes that stored answers have in it; see `StoredTeacher.of_batch`.
STORED_BOXES = "stored_boxes"

_BOXES, _SCORES, _STARTS, _FILES = "boxes.f32", "scores.f16", "starts.npy", "files.txt"


def holds_answers(path: str | Path) -> bool:
    """Return whether a path is a folder that `yolo-distill label` made, or began to make."""
    return (Path(path).expanduser() / PLAN).is_file()


def answering_classes(folder: Path) -> dict[int, str]:
    """Return class names by column of the answers in a folder.

    Raises:
        RequestError: it is not finished, or not to be read.
    """
    said = f"teacher={folder}"
    if not (folder / DATA).is_file():
        raise RequestError(f"{said}: yolo-distill label has not finished it; give the same command once more")
    try:
        return dict(enumerate(json.loads((folder / PLAN).read_text(encoding="utf-8"))["names"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError(f"{said}: its {PLAN} cannot be read ({type(error).__name__}); label again") from None


def lay_out(folder: Path, into: Path) -> None:
    """Write the answers of a folder that `yolo-distill label` made into an empty one, as plain arrays.

    Raises:
        RequestError: it holds no answers.
        DistillError: an answer cannot be read, or the disk cannot be written.
    """
    classes = len(answering_classes(folder))
    files: list[str] = []
    counts: list[npt.NDArray[np.int64]] = []
    try:
        with (into / _BOXES).open("wb") as boxes, (into / _SCORES).open("wb") as scores:
            for part in sorted((folder / SOFT).glob("part-*.parquet")):
                frame = pl.read_parquet(part, columns=["file", "width", "height", "boxes", "scores"])
                frame = frame.filter(pl.col("file").is_not_null())
                number = frame["boxes"].list.len().cast(pl.Int64).to_numpy()
                some = frame.filter(pl.col("boxes").list.len() > 0)
                if len(some):
                    size = some.select("width", "height").to_numpy().astype(np.float32)
                    size = np.repeat(np.concatenate([size, size], 1), number[number > 0], 0)
                    boxes.write((some["boxes"].explode().to_numpy() / size).astype(np.float32).tobytes())
                    vectors = some["scores"].explode().to_numpy().astype(np.float16)
                    if vectors.shape[1:] != (classes,):
                        raise RequestError(f"teacher={folder}: {part.name} is about other classes; label again")
                    scores.write(vectors.tobytes())
                counts.append(number)
                # By the picture itself, whatever links lead to it.
                files += [os.path.realpath(folder / PICTURES / name) for name in frame["file"]]
        starts = np.concatenate([[0], *counts]).cumsum() if counts else np.zeros(1, np.int64)
        np.save(into / _STARTS, starts)
        (into / _FILES).write_bytes(os.fsencode("\n".join(files)))  # a name may be no text
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DistillError(f"teacher={folder}: {' '.join(str(error).split())[:200]}") from error
    if not starts[-1]:
        raise RequestError(f"teacher={folder}: holds no box; label pictures that the teacher finds something in")


class StoredAnswers:
    """What was said about each picture, as `lay_out` wrote it.

    A box is known by its number among all boxes, which is small enough to be told apart in single precision.
    """

    #: Above this, not every whole number is a float32, as the host has class numbers.
    MOST = 2**24

    def __init__(self, folder: Path, classes: int) -> None:
        """Open what `lay_out` wrote into a folder, with so many classes in a box's vector.

        Raises:
            RequestError: there are more boxes than can be told apart.
        """
        self._folder, self._classes = folder, classes
        starts = np.load(folder / _STARTS)
        if (count := int(starts[-1])) + classes > self.MOST:
            raise RequestError(
                f"teacher: {count:,} stored boxes are more than the {self.MOST:,} that one run can tell apart; label "
                "with a higher conf=, or fewer pictures"
            )
        files = os.fsdecode((folder / _FILES).read_bytes()).split("\n")
        self._span = {file: span for file, *span in zip(files, starts[:-1].tolist(), starts[1:].tolist(), strict=True)}
        self._mapped: tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A loader's worker maps the files anew: sent to it, the arrays would be copied.
        return {**self.__dict__, "_mapped": None}

    def __contains__(self, file: str) -> bool:
        return os.path.realpath(file) in self._span

    def about(self, file: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return numbers (N,) and boxes (N, 4) of a picture, xyxy as shares of its sides; none if it is unknown."""
        start, stop = self._span.get(os.path.realpath(file), (0, 0))
        return np.arange(start, stop), np.asarray(self._arrays[0][start:stop])

    def vectors(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return class scores (N, classes) of boxes by their numbers (N,)."""
        return self._arrays[1][numbers].astype(np.float32)

    @property
    def _arrays(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        if self._mapped is None:
            boxes: npt.NDArray[np.float32] = np.memmap(self._folder / _BOXES, np.float32, "r").reshape(-1, 4)
            scores: npt.NDArray[np.float16] = np.memmap(self._folder / _SCORES, np.float16, "r")
            self._mapped = boxes, scores.reshape(-1, self._classes)
        return self._mapped


class StoredTeacher(Teacher):
    """Answers in sets, from what was stored; pictures of which nothing is known have no boxes."""

    def __init__(self, names: dict[int, str]) -> None:
        """Make a teacher that has nothing to say until `answers` is set."""
        self.names = dict(names)
        self.strides: list[int] = []
        self.widths: dict[int, int] = {}
        self.needs = Needs(maps=False)
        self.answers: StoredAnswers | None = None

    def __call__(self, images: Tensor) -> SetAnswer:
        """Answer for pictures of no file, such as those that a step is timed on: nothing."""
        return SetAnswer(images.new_zeros(len(images), 0, 4), images.new_zeros(len(images), 0, len(self.names)))

    def of_batch(self, batch: Mapping[str, Any]) -> SetAnswer:
        """Answer for `batch["img"]`, by the boxes that came through its augmentation.

        Args:
            batch: with `STORED_BOXES`: picture (N,), number among all stored boxes (N,), box (N, 4) in xyxy pixels.
        """
        if STORED_BOXES not in batch or self.answers is None:
            return self(batch["img"])
        images, (picture, number, boxes) = batch["img"], batch[STORED_BOXES]
        vectors = torch.from_numpy(self.answers.vectors(number.cpu().numpy())).to(images.device)
        own = [picture == place for place in range(len(images))]
        return make_set([boxes[rows] for rows in own], [vectors[rows] for rows in own], len(self.names))
