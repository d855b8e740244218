"""A few batches of the training split with their boxes, to take gradients of the host's own loss on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.data.dataset import YOLODataset

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.data.samples import random_state_kept
from yolo_distill.errors import RequestError

Batch = dict[str, Tensor]


def labelled_batches(
    args: Any, data: Mapping[str, Any], names: Mapping[int, str], *, imgsz: int, count: int = 64, size: int = 8
) -> list[Batch]:
    """Return batches of training pictures, evenly spaced over the split, letterboxed and not augmented.

    The host reads pictures and labels, and keeps what it found in the labels as it does for training; of its settings
    `fraction`, `single_cls` and `classes` are heeded. Global random states stay as they are.

    Args:
        args: the host's training settings.
        data: the host's description of the data set.
        names: classes of the model that the batches are for; boxes of other classes are left out.
        imgsz: side in pixels.
        count: pictures at most.
        size: pictures a batch.

    Returns:
        batches as the host's criterion takes them: `img` in 0..1 of shape (N, C, imgsz, imgsz), and of M boxes `cls`
        (M, 1), `bboxes` (M, 4) as xywh in 0..1, `batch_idx` (M,).

    Raises:
        RequestError: the model knows none of the data's classes.
    """
    match = match_classes(data["names"], names)
    if not match.matched:
        raise RequestError(
            f"init_channels=importance: the teacher knows none of the data's classes ({', '.join(match.untaught)}); "
            "use init_channels=norm or even"
        )
    with random_state_kept():
        dataset = YOLODataset(
            img_path=data["train"],
            imgsz=imgsz,
            augment=False,
            hyp=args,
            single_cls=bool(args.single_cls),
            classes=args.classes,
            fraction=args.fraction[0] if isinstance(args.fraction, list) else args.fraction,
            prefix="importance: ",
            data=data,
            task="detect",
        )
        places = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()
        batches = [
            dataset.collate_fn([dataset[place] for place in places[start : start + size]])
            for start in range(0, len(places), size)
        ]
    column = dict(zip(match.student, match.teacher, strict=True))
    return [_in_classes_of(batch, column) for batch in batches]


def _in_classes_of(batch: Batch, column: Mapping[int, int]) -> Batch:
    """Number the boxes' classes as the model does, and leave out those that it does not know."""
    classes = [column.get(int(c), -1) for c in batch["cls"].flatten()]
    known = torch.tensor([c >= 0 for c in classes], dtype=torch.bool)
    return {
        "img": batch["img"].float() / 255,
        "cls": torch.tensor(classes, dtype=torch.float32)[known].view(-1, 1),
        "bboxes": batch["bboxes"][known],
        "batch_idx": batch["batch_idx"][known],
    }
