"""Takes stored answers through the host's augmentation, as labels that the task's own loss never sees.

A stored box lies where the teacher saw it; mosaic, scaling, flips and the rest move it with its picture. So it goes
through them as one more label, with a class number that says which stored box it is: that of the last class and so many
more. Behind the augmentation they are taken out again (`take_stored_boxes`), before anything learns from them.

Relies on: the host's data set makes a picture with its labels in `get_image_and_label`, with boxes in `instances` and
one row of `cls` for each; its transforms move, cut and drop boxes and class numbers together, and look at neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data import YOLODataset
from ultralytics.utils import LOCAL_RANK, LOGGER, colorstr
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import xywh2xyxy
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from yolo_distill.errors import RequestError
from yolo_distill.teachers.stored import PLAN, SOFT, STORED_BOXES, StoredAnswers, answering_classes, lay_out
from yolo_distill.temporary import temporary_folder

PREFIX = colorstr("teacher: ")


class AnsweredPictures(YOLODataset):
    """The host's data set, with stored answers among the labels of its pictures."""

    _answers: StoredAnswers
    _first: int

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return a picture with its labels, stored boxes behind them."""
        label = super().get_image_and_label(index)
        numbers, boxes = self._answers.about(self.im_files[index])
        own = label["instances"]
        own.convert_bbox("xyxy")
        height, width = label["img"].shape[:2]
        if not own.normalized:
            boxes = boxes * np.array([width, height, width, height], np.float32)
        # Outlines would have to be there for all boxes; the host makes do without them.
        outlines = np.zeros((0, 1000, 2), np.float32)
        both = np.concatenate([own.bboxes, boxes]).astype(np.float32)
        label["instances"] = Instances(both, outlines, None, bbox_format="xyxy", normalized=own.normalized)
        label["cls"] = np.concatenate([label["cls"], self._first + numbers[:, None].astype(np.float32)])
        return label


def with_stored_boxes(datasets: Sequence[YOLODataset], answers: StoredAnswers, classes: int) -> list[AnsweredPictures]:
    """Change a run's data sets into `AnsweredPictures`, and say about how many of their pictures there are answers.

    Raises:
        RequestError: there is no answer about any.
    """
    for dataset in datasets:
        dataset.__class__ = AnsweredPictures
        dataset._answers, dataset._first = answers, classes
    known, total = sum(file in answers for own in datasets for file in own.im_files), sum(map(len, datasets))
    if not known:
        raise RequestError(
            f"teacher: holds answers about none of the {total} training pictures; label these (source=), or give the "
            "same folder as unlabeled="
        )
    LOGGER.info(f"{PREFIX}answers about {known} of {total} training pictures; the others are left to their labels")
    return list(datasets)


def take_stored_boxes(batch: dict[str, Any], classes: int) -> None:
    """Take the stored boxes out of the labels of a batch of the host, and put them under `STORED_BOXES`, in pixels."""
    number = batch["cls"].view(-1)
    stored = number >= classes
    height, width = batch["img"].shape[-2:]
    boxes = xywh2xyxy(batch["bboxes"][stored]) * batch["bboxes"].new_tensor([width, height, width, height])
    batch[STORED_BOXES] = batch["batch_idx"][stored].long(), (number[stored] - classes).long(), boxes
    for key in ("cls", "bboxes", "batch_idx"):
        batch[key] = batch[key][~stored]


def stored_answers(folder: Path, runs: Path) -> StoredAnswers:
    """Return the answers that a folder holds, laid out in the folder of runs now or earlier.

    Raises:
        RequestError: it holds none.
        DistillError: they cannot be read, or the disk cannot be written.
    """
    names = answering_classes(folder)
    parts = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted((folder / SOFT).iterdir())]
    content = json.dumps([str(folder.resolve()), (folder / PLAN).read_text(encoding="utf-8"), parts])
    laid = runs / f"answers-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    with torch_distributed_zero_first(LOCAL_RANK):
        if not laid.is_dir():
            runs.mkdir(parents=True, exist_ok=True)
            with temporary_folder(runs, ".answers-") as staged:
                whole = staged / "answers"
                whole.mkdir()
                lay_out(folder, whole)
                try:
                    whole.rename(laid)
                except OSError:
                    if not laid.is_dir():  # else a run beside this one was faster
                        raise
            LOGGER.info(f"{PREFIX}answers of {folder} laid out in {laid}")
    return StoredAnswers(laid, len(names))
