"""What a teacher is sure of on unlabelled pictures, as labels for the task's own loss.

The terms are a fraction of the task's gradient, so that a picture which has nothing but them teaches little. What the
teacher is sure of can stand in for its labels, while the terms still carry what it is not sure of.

Source: pseudo-labels of one threshold (Lee, ICML workshop 2013), for detectors Sohn et al., "A Simple Semi-Supervised
Learning Framework for Object Detection" (STAC), arXiv 2005.04757. Departures: the teacher is another, larger model; and
it labels the very view that the student sees, instead of the picture before its strong augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ultralytics.utils.ops import xyxy2xywh

from yolo_distill.data.class_mapping import ClassMatch
from yolo_distill.data.mixed_batches import LABELLED
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, as_set


@torch.no_grad()
def with_pseudo_labels(
    batch: Mapping[str, Any], answer: DenseAnswer | SetAnswer, classes: ClassMatch, conf: float
) -> dict[str, Any]:
    """Return a batch all of whose pictures have labels.

    Args:
        batch: the host's, with the boxes of its labelled pictures only: `cls` (N, 1), `bboxes` (N, 4) xywh in fractions
            of the picture, `batch_idx` (N,).
        answer: of the teacher, with boxes, about all of its pictures.
        classes: which columns correspond.
        conf: best class score above which a box is a label, 0..1.
    """
    if all(batch[LABELLED]):
        return dict(batch)
    found = answer if isinstance(answer, SetAnswer) else as_set(answer, conf=conf)
    device = batch["img"].device
    best, column = classes.of_teacher(found.scores).max(-1)
    unlabelled = ~torch.tensor(batch[LABELLED], device=device)
    picture, place = ((best > conf) & unlabelled[:, None]).nonzero(as_tuple=True)
    height, width = batch["img"].shape[-2:]
    size = found.boxes.new_tensor([width, height, width, height])
    corners = found.boxes[picture, place].clamp(min=found.boxes.new_zeros(4), max=size)
    label = torch.tensor(classes.student, device=device)[column[picture, place]]
    made = {"batch_idx": picture, "cls": label[:, None], "bboxes": xyxy2xywh(corners) / size}
    joined = {key: torch.cat([batch[key], more.to(batch[key])]) for key, more in made.items()}
    # The host's loss counts on the boxes of a picture standing together, pictures in order.
    order = joined["batch_idx"].argsort(stable=True)
    return {
        **batch,
        **{key: value[order] for key, value in joined.items()},
        LABELLED: (True,) * len(batch[LABELLED]),
    }
